"""Colour and size conversions against Pillow, statistics against numpy in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from robustprune.data.pixels import channel_statistics, convert_channels, resize_images
from robustprune.errors import DataError


def random_images(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8))


def test_grey_is_the_luma_pillow_computes():
    images = random_images(700, 3, 9, 7)
    converted = convert_channels(images, 1)
    for image, grey in zip(images[::50], converted[::50], strict=True):
        expected = np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L"))
        np.testing.assert_array_equal(grey[0].numpy(), expected)


def test_colour_from_grey_is_repetition_and_back_again_is_the_same():
    images = random_images(5, 1, 8, 8)
    colour = convert_channels(images, 3)
    assert all(torch.equal(colour[:, c : c + 1], images) for c in range(3))
    assert torch.equal(convert_channels(colour, 1), images)
    assert convert_channels(images, 1) is images


def test_other_channel_numbers_are_refused():
    with pytest.raises(DataError, match="1 or 3"):
        convert_channels(random_images(1, 2, 8, 8), 3)


@pytest.mark.parametrize(("old", "new"), [((28, 28), 32), ((64, 48), 16), ((8, 8), 24), ((33, 20), 9)])
def test_resizing_agrees_with_pillow(old, new):
    # Pillow filters in 8-bit fixed point and rounds between its two passes, hence one grey level.
    images = random_images(3, 3, *old)
    resized = resize_images(images, (new, new)).int()
    for image, result in zip(images, resized, strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        expected = np.asarray(picture.resize((new, new), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(result.permute(1, 2, 0).numpy() - expected).max() <= 1


@given(st.integers(0, 255), st.integers(8, 40), st.integers(8, 40))
@settings(deadline=None, max_examples=30)
def test_a_constant_image_stays_constant(level, old, new):
    images = torch.full((2, 1, old, old), level, dtype=torch.uint8)
    assert (resize_images(images, (new, new)) == level).all()


def test_many_images_are_resized_as_one_by_one():
    images = random_images(1030, 1, 8, 8)
    together = resize_images(images, (12, 12))
    for number in (0, 511, 512, 1029):
        assert torch.equal(together[number : number + 1], resize_images(images[number : number + 1], (12, 12)))


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_are_those_of_float64(channels):
    images = random_images(1100, channels, 6, 5)
    mean, std = channel_statistics(images.split(300))
    scaled = images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean, scaled.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, scaled.std(axis=(0, 2, 3)), rtol=1e-10)


def test_a_constant_channel_can_still_be_divided_by():
    mean, std = channel_statistics([torch.full((4, 1, 8, 8), 51, dtype=torch.uint8)])
    assert mean == (0.2,)
    assert std == (1e-3,)
