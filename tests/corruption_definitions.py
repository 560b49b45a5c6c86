"""The corruptions image by image, from their definitions, with NumPy, SciPy, Matplotlib's HSV and Pillow.

They share nothing with the package: the constants are those of REFERENCE, typed again. The oracle of
tests/corruptions, and the peer of benchmarks/corruptions.py. Images are uint8 (H, W, 3) of 32 pixels a side. What is
random is an argument, or comes from a NumPy generator.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy import ndimage

Array = np.ndarray[Any, Any]
Generator = np.random.Generator


def to_bytes(unit: Array) -> Array:
    """Return a picture in [0, 1] as the published code writes it: clipped, times 255, truncated."""
    return (np.clip(unit, 0, 1) * 255).astype(np.uint8)


# Noise


def gaussian_noise(image: Array, severity: int, random: Generator) -> Array:
    return to_bytes(image / 255 + random.normal(scale=(0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1], size=image.shape))


def shot_noise(image: Array, severity: int, random: Generator) -> Array:
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return to_bytes(random.poisson(image / 255 * photons) / photons)


def impulse_noise(image: Array, severity: int, random: Generator) -> Array:
    struck = random.random(image.shape) <= (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    return np.where(struck, np.where(random.random(image.shape) <= 0.5, 255, 0), image).astype(np.uint8)


def speckle_noise(image: Array, severity: int, random: Generator) -> Array:
    unit = image / 255
    return to_bytes(unit + unit * random.normal(scale=(0.06, 0.1, 0.12, 0.16, 0.2)[severity - 1], size=image.shape))


# Blur


def blurred(unit: Array, sigma: float) -> Array:
    return ndimage.gaussian_filter(unit, (sigma, sigma, 0), mode="nearest", truncate=4)


def gaussian_blur(image: Array, severity: int) -> Array:
    return to_bytes(blurred(image / 255, (0.4, 0.6, 0.7, 0.8, 1)[severity - 1]))


# Centre, edge and corner of the effective 3×3 kernels.
DEFOCUS = ((0.845, 0.0371, 0.0016), (0.619, 0.0838, 0.0113), (0.445, 0.111, 0.0277), (1 / 5, 1 / 5, 0), (1 / 9,) * 3)


def defocus_blur(image: Array, severity: int) -> Array:
    centre, edge, corner = DEFOCUS[severity - 1]
    kernel = np.array([[corner, edge, corner], [edge, centre, edge], [corner, edge, corner]])
    unit = image / 255
    return to_bytes(np.stack([ndimage.convolve(unit[..., c], kernel, mode="mirror") for c in range(3)], axis=2))


GLASS = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))


def glass_blur(image: Array, severity: int, offsets: Array) -> Array:
    """``offsets``: (rounds, H, W, 2) of −1 and 0, down and right."""
    sigma, rounds = GLASS[severity - 1]
    shuffled = to_bytes(blurred(image / 255, sigma))
    height, width = image.shape[:2]
    for turn in offsets[:rounds].tolist():
        for row in range(height - 1, 1, -1):
            for column in range(width - 1, 1, -1):
                down, right = turn[row][column]
                shuffled[row, column] = shuffled[row + down, column + right]
    return to_bytes(blurred(shuffled / 255, sigma))


def smeared(image: Array, angle: float, radius: int, sigma: float) -> Array:
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    rows, columns = np.arange(image.shape[0]), np.arange(image.shape[1])
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    total = np.zeros(image.shape)
    for step, weight in zip(steps, weights, strict=True):
        down, right = math.ceil(step * sine - 0.5), math.ceil(step * cosine - 0.5)
        shifted = image.take(rows + down, axis=0, mode="clip").take(columns + right, axis=1, mode="clip")
        total += weight * shifted
    return np.floor(total + 0.5).astype(np.uint8)


def motion_blur(image: Array, severity: int, angle: float) -> Array:
    return smeared(image, angle, *((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))[severity - 1])


def zoomed(unit: Array, factor: float) -> Array:
    side = unit.shape[0]
    middle = math.ceil(side / factor)
    top = (side - middle) // 2
    part = unit[top : top + middle, top : top + middle]
    large = ndimage.zoom(part, (factor, factor, *[1] * (unit.ndim - 2)), order=1)
    cut = (large.shape[0] - side) // 2
    return large[cut : cut + side, cut : cut + side]


def zoom_blur(image: Array, severity: int) -> Array:
    unit = (image / 255).astype(np.float32)
    factors = np.arange(1, (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1], 0.01)
    total = unit.copy()
    for factor in factors:
        total += zoomed(unit, factor)
    return to_bytes(total / (len(factors) + 1))


# Weather

SNOW = (
    (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)


def snow(image: Array, severity: int, field: Array, angle: float) -> Array:
    """``field``: (H, W) normal with the mean and deviation of the severity."""
    _, _, factor, threshold, radius, sigma, mix = SNOW[severity - 1]
    layer = zoomed(field, factor)
    layer = to_bytes(np.where(layer < threshold, 0, layer))
    layer = smeared(layer, angle, radius, sigma)[..., None] / 255
    unit = image / 255
    grey = (unit @ [0.299, 0.587, 0.114])[..., None]
    unit = mix * unit + (1 - mix) * np.maximum(unit, grey * 1.5 + 0.5)
    return to_bytes(unit + layer + np.rot90(layer, k=2))


def frost(image: Array, severity: int, ice: Array) -> Array:
    """``ice``: a crop (H, W, 3) of a frost picture."""
    keep, add = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[severity - 1]
    return np.clip(keep * image + add * ice, 0, 255).astype(np.uint8)


def plasma(random: Generator, side: int, decay: float) -> Array:
    """Diamond-square point by point of the grid, each with its four neighbours around the torus."""
    heights = np.zeros((side, side))
    amplitude, step = 100.0, side
    while step > 1:
        half = step // 2
        lattice = np.arange(0, side, step)
        for rows, columns, neighbours in (
            (lattice + half, lattice + half, ((-half, -half), (-half, half), (half, -half), (half, half))),
            (lattice, lattice + half, ((-half, 0), (half, 0), (0, -half), (0, half))),
            (lattice + half, lattice, ((-half, 0), (half, 0), (0, -half), (0, half))),
        ):
            mean = sum(heights[np.ix_((rows + down) % side, (columns + right) % side)] for down, right in neighbours)
            noise = amplitude * random.uniform(-amplitude, amplitude, (len(rows), len(columns)))
            heights[np.ix_(rows, columns)] = mean / 4 + noise
        step, amplitude = half, amplitude / decay
    heights -= heights.min()
    return heights / heights.max()


FOG = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))


def fog(image: Array, severity: int, random: Generator) -> Array:
    thickness, decay = FOG[severity - 1]
    unit = image / 255
    brightest = unit.max()
    side = 1 << (max(image.shape[:2]) - 1).bit_length()
    veil = plasma(random, side, decay)[: image.shape[0], : image.shape[1], None]
    return to_bytes((unit + thickness * veil) * brightest / (brightest + thickness))


SPATTER = (
    (0.62, 0.1, 0.7, 0.7, 0.5),
    (0.65, 0.1, 0.8, 0.7, 0.5),
    (0.65, 0.3, 1, 0.69, 0.5),
    (0.65, 0.1, 0.7, 0.69, 0.6),
    (0.65, 0.1, 0.5, 0.68, 0.6),
)


def spatter(image: Array, severity: int, field: Array) -> Array:
    """``field``: (H, W) normal with the mean and deviation of the severity."""
    _, _, sigma, threshold, density = SPATTER[severity - 1]
    liquid = ndimage.gaussian_filter(field, sigma, mode="nearest")
    unit = image / 255
    if severity > 3:
        mud = ndimage.gaussian_filter((liquid > threshold).astype(float), density, mode="nearest")
        mud = np.where(mud < 0.8, 0, mud)[..., None]
        return to_bytes(unit * (1 - mud) + mud * np.array([63, 42, 20]) / 255)
    # Grey levels above 255 begin again at 0, as in the published code, which does not clip here.
    drops = (np.where(liquid < threshold, 0, liquid) * 255).astype(int) % 256
    water = drops * depth_of_water(drops)
    return to_bytes(unit + density * (water / water.max())[..., None] * np.array([175, 238, 238]) / 255)


def depth_of_water(drops: Array) -> Array:
    """Distance from the edges, spread over the grey levels, lit from one side and smoothed."""
    distance = np.minimum(distances_from(edges_of(drops, 50, 150)), 20)
    depth = ndimage.uniform_filter(distance, 3, mode="mirror")
    depth = equalized(np.floor(np.round(depth, 6)).astype(int))
    kernel = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    lit = ndimage.correlate(depth, kernel, mode="mirror").clip(0, 255)
    return np.rint(ndimage.uniform_filter(lit.astype(float), 3, mode="mirror"))


def edges_of(grey: Array, low: int, high: int) -> Array:
    """Canny's edges: ridges of the gradient that hang together with strong ones; ties go to the first in line."""
    right, down = (ndimage.sobel(grey.astype(int), axis=axis, mode="nearest") for axis in (1, 0))
    strength = np.abs(right) + np.abs(down)
    around = np.pad(strength, 1)
    height, width = grey.shape

    def at(row: int, column: int) -> Array:
        return around[1 + row : 1 + row + height, 1 + column : 1 + column + width]

    slope = np.degrees(np.arctan2(np.abs(down), np.abs(right)))
    falls = (right < 0) == (down < 0)  # the gradient points down to the right, or up to the left
    ridge = np.select(
        [slope < 22.5, slope > 67.5, falls],
        [
            (strength > at(0, -1)) & (strength >= at(0, 1)),
            (strength > at(-1, 0)) & (strength >= at(1, 0)),
            (strength > at(-1, -1)) & (strength > at(1, 1)),
        ],
        (strength > at(-1, 1)) & (strength > at(1, -1)),
    )
    ridge &= strength > low
    groups, _ = ndimage.label(ridge, np.ones((3, 3)))
    return ridge & np.isin(groups, groups[ridge & (strength > high)])


# Steps straight, diagonal and like a knight's, from the middle of 5×5.
STEPS = np.full((5, 5), np.inf)
for rows, columns, length in (((2, 2), (1, 3), 1.0), ((1, 1), (1, 3), 1.4), ((0, 0, 1, 1), (1, 3, 0, 4), 2.1969)):
    for row, column in zip(rows, columns, strict=True):
        STEPS[row, column] = STEPS[column, row] = STEPS[4 - row, 4 - column] = STEPS[4 - column, 4 - row] = length
STEPS[2, 2] = 0.0


def distances_from(targets: Array) -> Array:
    """Shortest paths of such steps to the targets, by relaxing them until nothing changes; far away without any."""
    distance = np.where(targets, 0.0, 1e4)
    while True:
        nearer = ndimage.grey_erosion(
            distance, footprint=np.isfinite(STEPS), structure=-STEPS, mode="constant", cval=1e4
        )
        if np.allclose(nearer, distance, rtol=0, atol=1e-9):
            return distance
        distance = nearer


def equalized(grey: Array) -> Array:
    """Grey levels by the share of the other pixels that are no brighter; the lowest becomes 0."""
    levels, counts = np.unique(grey, return_counts=True)
    if len(levels) == 1:
        return grey
    spread = np.rint((counts.cumsum() - counts[0]) * (255 / (grey.size - counts[0])))
    return spread[np.searchsorted(levels, grey)].astype(int)


# Colour and geometry


def brightness(image: Array, severity: int) -> Array:
    hsv = rgb_to_hsv(image / 255)
    hsv[..., 2] = np.clip(hsv[..., 2] + (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1], 0, 1)
    return to_bytes(hsv_to_rgb(hsv))


def saturate(image: Array, severity: int) -> Array:
    factor, addition = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))[severity - 1]
    hsv = rgb_to_hsv(image / 255)
    hsv[..., 1] = np.clip(hsv[..., 1] * factor + addition, 0, 1)
    return to_bytes(hsv_to_rgb(hsv))


def contrast(image: Array, severity: int) -> Array:
    unit = image / 255
    means = unit.mean(axis=(0, 1), keepdims=True)
    return to_bytes((unit - means) * (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1] + means)


ELASTIC = ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))


def elastic_transform(image: Array, severity: int, corners: Array, wobble: Array) -> Array:
    """``corners``: (3, 2) shifts of the control points (x, y) in pixels; ``wobble``: (2, H, W) uniform in [−1, 1]."""
    height, width = image.shape[:2]
    length, sigma, _ = (min(height, width) * value for value in ELASTIC[severity - 1])
    points = np.array([[26.0, 26.0], [26.0, 6.0], [6.0, 6.0]])
    affine = np.linalg.solve(np.column_stack([points + corners, np.ones(3)]), points)  # (3, 2): x, y, 1 → x, y
    rows, columns = np.mgrid[:height, :width].astype(float)
    source_x, source_y = np.moveaxis(np.stack([columns, rows, np.ones_like(rows)], axis=2) @ affine, 2, 0)
    unit = image / 255
    unit = np.stack(
        [ndimage.map_coordinates(unit[..., c], [source_y, source_x], order=1, mode="mirror") for c in range(3)], axis=2
    )
    if length:
        right, down = (ndimage.gaussian_filter(part, sigma, mode="reflect", truncate=3) * length for part in wobble)
        places = [rows + down, columns + right]
        unit = np.stack(
            [ndimage.map_coordinates(unit[..., c], places, order=1, mode="reflect") for c in range(3)], axis=2
        )
    return to_bytes(unit)


def pixelate(image: Array, severity: int) -> Array:
    height, width = image.shape[:2]
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    small = Image.fromarray(image).resize((int(width * share), int(height * share)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BOX))


def jpeg_compression(image: Array, severity: int) -> Array:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=(80, 65, 58, 50, 40)[severity - 1])
    return np.asarray(Image.open(stream))


# With random numbers of their own, for statistics and timings


def random_glass_blur(image: Array, severity: int, random: Generator) -> Array:
    return glass_blur(image, severity, random.integers(-1, 1, (GLASS[severity - 1][1], *image.shape[:2], 2)))


def random_motion_blur(image: Array, severity: int, random: Generator) -> Array:
    return motion_blur(image, severity, random.uniform(-45, 45))


def random_snow(image: Array, severity: int, random: Generator) -> Array:
    mean, deviation = SNOW[severity - 1][:2]
    return snow(image, severity, random.normal(mean, deviation, image.shape[:2]), random.uniform(-135, -45))


def random_elastic_transform(image: Array, severity: int, random: Generator) -> Array:
    shift = ELASTIC[severity - 1][2] * min(image.shape[:2])
    corners = random.uniform(-shift, shift, (3, 2))
    return elastic_transform(image, severity, corners, random.uniform(-1, 1, (2, *image.shape[:2])))


def random_spatter(image: Array, severity: int, random: Generator) -> Array:
    mean, deviation = SPATTER[severity - 1][:2]
    return spatter(image, severity, random.normal(mean, deviation, image.shape[:2]))
