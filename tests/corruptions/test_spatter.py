"""Spatter and what it is made of, against its definition image by image (tests/corruption_definitions.py)."""

from __future__ import annotations

from typing import Any

import corruption_definitions as definitions
import numpy as np
import pytest
from scipy import ndimage

from robustprune.corruptions import SEVERITIES
from robustprune.corruptions.spatter import box_blur, canny, chamfer_distance, equalize, rim, spatter_over

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def liquids() -> Array:
    """Grey levels of thresholded smooth noise, as spatter draws them, and blobs of other strengths."""
    noise = np.random.default_rng(3).normal(0.65, 0.3, (12, 24, 20))
    smooth = np.stack([ndimage.gaussian_filter(field, 0.5 + 0.1 * n) for n, field in enumerate(noise)])
    smooth[smooth < 0.69] = 0
    return (np.clip(smooth, 0, 1) * 255).astype(np.uint8)


def test_canny(liquids: Array) -> None:
    found = canny(liquids, 50, 150)
    assert found.any(axis=(1, 2)).sum() > 6
    np.testing.assert_array_equal(found, [definitions.edges_of(image, 50, 150) for image in liquids])


def test_canny_by_hand() -> None:
    # A step of 60 is 4 · 60 strong on both sides, of which the first is the ridge; one of 20 is possible, not strong.
    steps = np.zeros((2, 6, 8), dtype=np.uint8)
    steps[0, :, 4:], steps[1, :, 4:] = 60, 20
    found = canny(steps, 50, 150)
    np.testing.assert_array_equal(np.argwhere(found), [[0, row, 3] for row in range(6)])


def test_chamfer_distance() -> None:
    targets = np.random.default_rng(1).random((6, 24, 20)) < 0.01
    targets[0], targets[1] = False, False
    targets[1, 0, 0] = True
    found = chamfer_distance(targets, 40)
    assert (found[0] >= 40).all()
    for image, distance in zip(targets[1:], found[1:], strict=True):
        np.testing.assert_allclose(distance, definitions.distances_from(image), atol=1e-3)
    # By hand, from the corner: 3 down and 1 right is a knight's step and one straight.
    assert found[1, 3, 1] == pytest.approx(2.1969 + 1, abs=1e-3)


def test_small_filters(liquids: Array) -> None:
    for image, blurred, embossed in zip(liquids, box_blur(liquids), rim(liquids), strict=True):
        np.testing.assert_allclose(blurred, ndimage.uniform_filter(image.astype(float), 3, mode="mirror"), atol=1e-9)
        kernel = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
        expected = ndimage.correlate(image.astype(int), kernel, mode="mirror").clip(0, 255)
        np.testing.assert_array_equal(embossed, expected)


def test_equalize_by_hand() -> None:
    # Of six pixels two are 10, one 20, three 90: the lowest becomes 0, the others (1, 4) · 255 / 4.
    image = np.array([[[10, 90, 20], [10, 90, 90]]], dtype=np.uint8)
    np.testing.assert_array_equal(equalize(image), [[[0, 255, 64], [0, 255, 255]]])
    plain = np.full((1, 4, 4), 7, dtype=np.uint8)
    np.testing.assert_array_equal(equalize(plain), plain)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_spatter_for_given_fields(photographs: Any, severity: int) -> None:
    images = photographs[:200].numpy()
    fields = np.random.default_rng(severity).normal(*definitions.SPATTER[severity - 1][:2], (len(images), 32, 32))
    fields = np.rint(fields * 2**16) / 2**16
    found = spatter_over(images, severity, fields)
    assert (found != images).mean() > 0.01
    expected = [
        definitions.spatter(np.ascontiguousarray(image.transpose(1, 2, 0)), severity, field).transpose(2, 0, 1)
        for image, field in zip(images, fields, strict=True)
    ]
    # A drop's grey level at the point of rounding may move an edge, and with it the depth of all the image's water.
    same = (np.abs(found.astype(int) - expected) <= 1).all(axis=(1, 2, 3))
    assert same.mean() > 0.97


def test_water_only_brightens_and_its_densest_point_is_half_water(some_photographs: Array) -> None:
    images = some_photographs // 4  # so that nothing is clipped
    fields = np.random.default_rng(0).normal(0.65, 0.3, (len(images), 32, 32))
    made = spatter_over(images, 3, fields).astype(int) - images
    assert made.min() >= 0
    np.testing.assert_array_equal(made.max(axis=(2, 3)), np.tile([87, 119, 119], (len(images), 1)))
    dry = spatter_over(images, 3, np.zeros((len(images), 32, 32)))
    np.testing.assert_array_equal(dry, images)
