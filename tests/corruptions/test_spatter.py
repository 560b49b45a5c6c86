"""Spatter and what it is made of, against pixel-by-pixel definitions."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from robustprune.corruptions.edges import box_blur, canny, chamfer_distance, equalize, rim
from robustprune.corruptions.spatter import spatter_over

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def liquids() -> Array:
    """Grey levels of thresholded smooth noise, as spatter draws them, and blobs of other strengths."""
    noise = np.random.default_rng(3).normal(0.65, 0.3, (12, 24, 20))
    smooth = np.stack([ndimage.gaussian_filter(field, 0.5 + 0.1 * n) for n, field in enumerate(noise)])
    smooth[smooth < 0.69] = 0
    return (np.clip(smooth, 0, 1) * 255).astype(np.uint8)


def canny_by_pixel(image: Array, low: int, high: int) -> Array:
    values = image.astype(int)
    right, down = (ndimage.sobel(values, axis=axis, mode="nearest") for axis in (1, 0))
    strength = np.abs(right) + np.abs(down)

    def at(row: int, column: int) -> int:
        inside = 0 <= row < values.shape[0] and 0 <= column < values.shape[1]
        return int(strength[row, column]) if inside else 0

    ridge = np.zeros(values.shape, dtype=bool)
    for (row, column), own in np.ndenumerate(strength):
        slope = np.degrees(np.arctan2(abs(down[row, column]), abs(right[row, column])))
        if slope < 22.5:
            keep = own > at(row, column - 1) and own >= at(row, column + 1)
        elif slope > 67.5:
            keep = own > at(row - 1, column) and own >= at(row + 1, column)
        else:
            side = -1 if (right[row, column] < 0) != (down[row, column] < 0) else 1
            keep = own > at(row - 1, column - side) and own > at(row + 1, column + side)
        ridge[row, column] = keep and own > low
    groups, _ = ndimage.label(ridge, np.ones((3, 3)))
    return np.isin(groups, np.unique(groups[ridge & (strength > high)])) & ridge


def test_canny(liquids: Array) -> None:
    found = canny(liquids, 50, 150)
    assert found.any(axis=(1, 2)).sum() > 6
    np.testing.assert_array_equal(found, [canny_by_pixel(image, 50, 150) for image in liquids])


def shortest_paths(targets: Array) -> Array:
    """Dijkstra over the steps of the mask."""
    steps = [(dy, dx, 1.0) for dy, dx in ((0, 1), (1, 0))] + [(1, 1, 1.4)] + [(1, 2, 2.1969), (2, 1, 2.1969)]
    moves = {(sy * dy, sx * dx, cost) for dy, dx, cost in steps for sy in (1, -1) for sx in (1, -1)}
    best = np.where(targets, 0, np.inf)
    waiting = [(0.0, row, column) for row, column in np.argwhere(targets).tolist()]
    while waiting:
        so_far, row, column = heapq.heappop(waiting)
        for down, right, cost in moves:
            y, x = row + down, column + right
            inside = 0 <= y < best.shape[0] and 0 <= x < best.shape[1]
            if inside and so_far + cost < best[y, x] - 1e-12:
                best[y, x] = so_far + cost
                heapq.heappush(waiting, (so_far + cost, y, x))
    return best


def test_chamfer_distance() -> None:
    targets = np.random.default_rng(1).random((6, 24, 20)) < 0.01
    targets[0], targets[1] = False, False
    targets[1, 0, 0] = True
    found = chamfer_distance(targets, 40)
    assert (found[0] >= 40).all()
    for image, distance in zip(targets[1:], found[1:], strict=True):
        np.testing.assert_allclose(distance, shortest_paths(image), atol=1e-3)


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


@pytest.mark.parametrize(("severity", "blur", "threshold", "soft"), [(4, 0.7, 0.69, 0.6), (5, 0.5, 0.68, 0.6)])
def test_mud(some_photographs: Array, severity: int, blur: float, threshold: float, soft: float) -> None:
    fields = np.random.default_rng(severity).normal(0.65, 0.1, (len(some_photographs), 32, 32))
    fields = np.rint(fields * 2**16) / 2**16
    found = spatter_over(some_photographs, severity, fields)
    assert (found != some_photographs).mean() > 0.01
    for image, field, made in zip(some_photographs, fields, found, strict=True):
        liquid = ndimage.gaussian_filter(field, blur, mode="nearest")
        cover = ndimage.gaussian_filter((liquid > threshold).astype(float), soft, mode="nearest")
        cover = np.where(cover < 0.8, 0, cover)
        expected = image * (1 - cover) + np.array([63, 42, 20])[:, None, None] * cover
        assert np.abs(made - np.floor(expected)).max() <= 1


def test_water_only_brightens_and_its_densest_point_is_half_water(some_photographs: Array) -> None:
    images = some_photographs // 4  # so that nothing is clipped
    fields = np.random.default_rng(0).normal(0.65, 0.3, (len(images), 32, 32))
    made = spatter_over(images, 3, fields).astype(int) - images
    assert made.min() >= 0
    np.testing.assert_array_equal(made.max(axis=(2, 3)), np.tile([87, 119, 119], (len(images), 1)))
    dry = spatter_over(images, 3, np.zeros((len(images), 32, 32)))
    np.testing.assert_array_equal(dry, images)
