"""Augmentation against a plain loop over images, and its statistics against those it promises."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from robustprune.data import augment, default_shift


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_images(*shape):
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=seeded(99))


def all_variants(image, flip, shift):
    """Every picture `augment` may make of one image, by padding, cropping and flipping it."""
    _, height, width = image.shape
    for mirrored in (False, True)[: 1 + flip]:
        padded = F.pad(image.flip(2) if mirrored else image, (shift,) * 4)
        for top in range(2 * shift + 1):
            for left in range(2 * shift + 1):
                yield (mirrored, top, left), padded[:, top : top + height, left : left + width]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 6), st.sampled_from([1, 3]), st.integers(4, 9), st.integers(4, 9), st.booleans(),
    st.integers(0, 3), st.integers(0, 10**6),
)  # fmt: skip
def test_every_result_is_a_flip_and_shift_of_its_image(count, channels, height, width, flip, shift, seed):
    images = random_images(count, channels, height, width)
    results = augment(images, seeded(seed), flip=flip, shift=shift)
    assert results.shape == images.shape
    assert results.dtype == torch.uint8
    for image, result in zip(images, results, strict=True):
        assert any(torch.equal(result, variant) for _, variant in all_variants(image, flip, shift))


def test_all_flips_and_shifts_are_equally_likely():
    image = random_images(1, 3, 8, 8)
    draws = 18_000
    results = augment(image.expand(draws, -1, -1, -1), seeded(1), flip=True, shift=1)
    tally = [int((results == variant).all(dim=(1, 2, 3)).sum()) for _, variant in all_variants(image[0], True, 1)]
    assert sum(tally) == draws
    # 18 outcomes of 1000 each; six standard deviations of a binomial are 185.
    assert min(tally) > 815
    assert max(tally) < 1185


def test_the_generator_decides_and_the_global_one_is_left_alone():
    images = random_images(32, 3, 8, 8)
    before = torch.get_rng_state()
    first = augment(images, seeded(5), flip=True, shift=2)
    assert torch.equal(first, augment(images, seeded(5), flip=True, shift=2))
    assert not torch.equal(first, augment(images, seeded(6), flip=True, shift=2))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_memory_layout_is_kept_and_does_not_matter(layout):
    images = random_images(16, 3, 8, 8)
    result = augment(images.contiguous(memory_format=layout), seeded(), flip=True, shift=1)
    assert result.is_contiguous(memory_format=layout)
    assert torch.equal(result, augment(images, seeded(), flip=True, shift=1))


def test_float_images_keep_their_type():
    images = random_images(4, 3, 8, 8)
    result = augment(images.float(), seeded(), flip=True, shift=1)
    assert torch.equal(result, augment(images, seeded(), flip=True, shift=1).float())


def test_nothing_asked_nothing_done():
    images = random_images(4, 1, 8, 8)
    assert augment(images, seeded(), flip=False, shift=0) is images


def test_default_shift_is_an_eighth():
    assert [default_shift(size) for size in (8, 28, 32, (64, 48))] == [1, 3, 4, 6]
