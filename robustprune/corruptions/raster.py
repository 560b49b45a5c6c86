"""What the corruptions share: kinds of arrays, grey levels, lengths, and blurs and enlargements as matrices.

The matrices work along rows and columns, without rounding: pixels are 8-bit integers, fields have 16 fractional bits,
weights are rounded to 2⁻¹⁶, so every sum over two axes is a sum of multiples of 2⁻⁴⁸ that double precision holds
exactly. The order of summation, which differs between batch sizes, thread counts and processors, changes no bit, and no
grey level after truncation.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]  # grey levels
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Words = NDArray[np.uint64]  # random bits

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
REFERENCE_SIDE = 32  # of the images that the constants are published for
FRACTION_BITS = 16  # of fields and weights
_ONE = 2.0**FRACTION_BITS
# What scipy.ndimage calls the ways to go on beyond the border, in the words of np.pad.
_BORDERS: dict[str, Any] = {"nearest": "edge", "reflect": "symmetric", "mirror": "reflect"}
Border = Literal["nearest", "reflect", "mirror"]


def to_bytes(values: NDArray[np.floating] | Integers) -> Bytes:
    """Return grey levels clipped to 0…255 and truncated, as the published sets are."""
    return np.clip(values, 0, 255).astype(np.uint8)


def geometry_scale(height: int, width: int) -> float:
    """Return what lengths in pixels (radii, deviations of blurs, flakes) are multiplied by.

    It is the shorter side over 32, and never below one: on smaller images a pixel is as fine as geometry gets,
    and a blur by a fraction of it would leave nothing to measure. Lengths that are given as a share of the image
    (zoom, pixelation, elastic displacements, the coarseness of fog) follow the side at any size.
    """
    return max(1.0, min(height, width) / REFERENCE_SIDE)


def canvas(height: int, width: int) -> tuple[int, int]:
    """Return the size at which weather is drawn before it is enlarged onto the image."""
    scale = geometry_scale(height, width)
    return round(height / scale), round(width / scale)


def along_axes(values: NDArray[Any], rows: Floats, columns: Floats) -> Floats:
    """Return rows · values · columnsᵀ for each image: (…, H, W) → (…, H', W')."""
    result = torch.from_numpy(rows) @ (torch.from_numpy(values).double() @ torch.from_numpy(columns).T)
    return result.numpy()


def gaussian_blur(values: NDArray[Any], sigma: float, *, border: Border = "nearest", truncate: float = 4.0) -> Floats:
    """Return images (…, H, W) blurred as scipy.ndimage.gaussian_filter does."""
    kernel = gaussian_kernel(sigma, int(truncate * sigma + 0.5))
    if len(kernel) == 1:
        return values.astype(np.float64)
    height, width = values.shape[-2:]
    return along_axes(values, convolution(height, kernel, border), convolution(width, kernel, border))


def gaussian_kernel(sigma: float, radius: int) -> Floats:
    """Return the 2·radius + 1 weights of a Gaussian, which sum to one."""
    if radius == 0:
        return np.ones(1)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return fixed_point(weights / weights.sum())


def convolution(length: int, kernel: Floats, border: Border | None) -> Floats:
    """Return the matrix that convolves a line with a symmetric kernel of an odd number of weights.

    The border is what continues the line at its ends; None leaves out what would need to know.
    """
    radius = len(kernel) // 2
    places = np.arange(length)
    source = places if border is None else np.pad(places, radius, mode=_BORDERS[border])
    matrix = np.zeros((len(source) - 2 * radius, length))
    for tap, weight in enumerate(kernel):
        np.add.at(matrix, (np.arange(len(matrix)), source[tap : tap + len(matrix)]), weight)
    return matrix


def centre_zoom(length: int, factor: float) -> Floats:
    """Return the matrix that enlarges the middle of a line linearly, corner to corner, and cuts it to length.

    The middle is ⌈length / factor⌉ long, as in the published code, and the end points stay end points.
    """
    middle = math.ceil(length / factor)
    enlarged = round(middle * factor)
    start, cut = (length - middle) // 2, (enlarged - length) // 2
    places = (np.arange(length) + cut) * ((middle - 1) / (enlarged - 1))
    return interpolation(length, np.asarray(start + places, dtype=np.float64))


def resampling(length: int, target: int, step: float | None = None) -> Floats:
    """Return the matrix that resizes a line linearly between pixel middles, without antialiasing, as OpenCV does.

    The step is that from one pixel of the result to the next, by default length / target.
    """
    places = (np.arange(target) + 0.5) * (step or length / target) - 0.5
    return interpolation(length, np.clip(places, 0, length - 1))


def enlarged(values: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Return images (…, h, w) resized linearly to (…, H, W); those of that size as they are."""
    if values.shape[-2:] == (height, width):
        return values
    fine = np.rint(values * _ONE) / _ONE  # no finer than sums are exact
    return along_axes(fine, resampling(values.shape[-2], height), resampling(values.shape[-1], width))


def interpolation(length: int, places: Floats) -> Floats:
    """Return the matrix that reads a line at fractional places within it, linearly."""
    matrix = np.zeros((len(places), length))
    low = np.clip(np.floor(places).astype(int), 0, length - 2)
    share = np.rint(np.clip(places - low, 0, 1) * _ONE) / _ONE
    lines = np.arange(len(places))
    matrix[lines, low] = 1 - share
    matrix[lines, low + 1] += share
    return matrix


def fixed_point(weights: Floats) -> Floats:
    """Return weights that sum to one as multiples of 2⁻¹⁶ that still do, so that a plain area stays as it is."""
    rounded = np.rint(weights * _ONE)
    rounded[np.argmax(weights)] += _ONE - rounded.sum()
    return rounded / _ONE
