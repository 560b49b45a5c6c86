"""AugMix's operations against Pillow, one image at a time, and the mixture against its definition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from robustprune.corruptions import EXTRAS, HEADLINE
from robustprune.data import load_data
from robustprune.data.augmentation import OPERATIONS, apply_operations, augmix

BILINEAR = Image.Resampling.BILINEAR


@pytest.fixture(scope="module")
def images() -> Tensor:
    return load_data("photo-patches").require("test").images[::80]


def affine(*numbers: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.transform(image.size, Image.Transform.AFFINE, numbers, BILINEAR)


# Level 5 of 10, in the positive direction, as the published code of AugMix would call Pillow.
PILLOW: dict[str, Callable[[Image.Image], Image.Image]] = {
    "autocontrast": ImageOps.autocontrast,
    "equalize": ImageOps.equalize,
    "posterize": lambda image: ImageOps.posterize(image, 4 - 2),
    "solarize": lambda image: ImageOps.solarize(image, 256 - 128),
    "rotate": lambda image: image.rotate(15, BILINEAR),
    "shear_x": affine(1, 0.15, -0.15 * 16, 0, 1, 0),
    "shear_y": affine(1, 0, 0, 0.15, 1, -0.15 * 16),
    "translate_x": affine(1, 0, 5, 0, 1, 0),
    "translate_y": affine(1, 0, 0, 0, 1, 5),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_pillow(images: Tensor, name: str) -> None:
    count = len(images)
    made = apply_operations(
        images, torch.full((count,), OPERATIONS.index(name)), torch.full((count,), 5.0), torch.ones(count)
    )
    for image, found in zip(images.numpy(), made.numpy(), strict=True):
        expected = np.asarray(PILLOW[name](Image.fromarray(image.transpose(1, 2, 0)))).transpose(2, 0, 1)
        distance = np.abs(found.astype(int) - expected)
        # Pillow reads moved pixels at fixed-point places and leaves out half-covered ones at the border.
        inside = distance[:, 6:-6, 6:-6] if "rotate" in name or "_" in name else distance
        assert inside.max() <= 2, name
        assert (inside > 1).mean() < 0.02


def test_operations_are_mixed_within_a_batch(images: Tensor) -> None:
    operation = torch.arange(len(images)) % len(OPERATIONS)
    level, sign = torch.linspace(0.1, 9, len(images)), torch.ones(len(images))
    together = apply_operations(images, operation, level, sign)
    for number in range(len(images)):
        one = slice(number, number + 1)
        assert torch.equal(apply_operations(images[one], operation[one], level[one], sign[one]), together[one])


def test_no_operation_is_a_test_corruption() -> None:
    assert not set(OPERATIONS) & set(HEADLINE + EXTRAS)
    assert not any(word in name for name in OPERATIONS for word in ("bright", "blur", "noise", "saturat", "sharp"))


def test_mixtures_stay_in_range_and_follow_the_generator(images: Tensor) -> None:
    first, again, other = (augmix(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == torch.float32
    assert 0 <= float(first.min()) <= float(first.max()) <= 1 + 1e-6
    unit = images.float() / 255
    assert 0.005 < float((first - unit).abs().mean()) < 0.3
    grey = augmix(images[:, :1, :28, :28], torch.Generator().manual_seed(1))
    assert grey.shape == (len(images), 1, 28, 28)


def test_white_images_by_hand() -> None:
    # Of the tables only posterization and solarization change white.
    white = torch.full((4, 3, 16, 16), 255, dtype=torch.uint8)
    for name in ("autocontrast", "equalize"):
        place = torch.full((4,), OPERATIONS.index(name))
        assert torch.equal(apply_operations(white, place, torch.full((4,), 3.0), torch.ones(4)), white)
    posterized = apply_operations(white, torch.full((4,), 2), torch.full((4,), 3.0), torch.ones(4))
    assert (posterized == 224).all()  # three bits: 11100000
