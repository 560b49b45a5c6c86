"""Snow and fog."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robustprune.corruptions import linear
from robustprune.corruptions.arrays import LUMA, Bytes, Floats, to_bytes
from robustprune.corruptions.draws import Draws
from robustprune.corruptions.geometry import canvas
from robustprune.corruptions.motion import directional_blur

# Mean and deviation of the flakes' layer, its enlargement and threshold, radius and deviation of the motion, and
# what is left of the image's own contrast.
_SNOW = (
    (0.1, 0.2, 1.0, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1.0, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)
_FOG = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))  # thickness, decay with finer scales


def snow(images: Bytes, severity: int, draws: Draws) -> Bytes:
    """Falling flakes over a whitened image."""
    mean, deviation, *_ = _SNOW[severity - 1]
    field = draws.normal("flakes", mean, deviation, *canvas(*images.shape[2:]))
    angles = draws.uniform("angle", -135, -45, 1)[:, 0]
    return snow_over(images, severity, field, angles)


def snow_over(images: Bytes, severity: int, field: Floats, angles: Floats) -> Bytes:
    """Let it snow: flakes where the field (N, h, w) is high, falling at the angles (N,) in degrees."""
    _, _, zoom, threshold, radius, deviation, kept = _SNOW[severity - 1]
    if zoom > 1:
        field = linear.along_axes(field, *(linear.centre_zoom(side, zoom) for side in field.shape[1:]))
    flakes = to_bytes(np.where(field < threshold, 0, field) * 255)[:, None]
    flakes = directional_blur(flakes, angles, radius, deviation)
    flakes = to_bytes(linear.enlarged(flakes, *images.shape[2:]))
    white = np.float32((1 - kept) * 1.5) * _luma(images) + np.float32((1 - kept) * 127.5)
    mixed = images * np.float32(kept)
    mixed += white
    np.maximum(mixed, images, out=mixed)  # kept · x + (1 − kept) · x, where the image is whiter than white
    mixed += flakes.astype(np.int16) + flakes[:, :, ::-1, ::-1]
    np.minimum(mixed, 255, out=mixed)
    snowed: Bytes = mixed.astype(np.uint8)
    return snowed


def _luma(images: Bytes) -> NDArray[np.float32]:
    weights = LUMA if images.shape[1] == 3 else (1.0,)
    total = np.zeros((len(images), 1, *images.shape[2:]), dtype=np.float32)
    for channel, weight in enumerate(weights):
        total[:, 0] += images[:, channel] * np.float32(weight)
    return total


def fog(images: Bytes, severity: int, draws: Draws) -> Bytes:
    """A cloudy veil, brighter than what it hides."""
    _, decay = _FOG[severity - 1]
    side = 1 << (max(images.shape[2:]) - 1).bit_length()
    # One number for every point of the map but its first.
    uniform = draws.uniform("plasma", -1, 1, side * side - 1)
    return fog_over(images, severity, plasma(uniform, side, decay))


def fog_over(images: Bytes, severity: int, veil: Floats) -> Bytes:
    """Lay a veil (N, ≥ H, ≥ W) in [0, 1] over the images."""
    thickness, _ = _FOG[severity - 1]
    height, width = images.shape[2:]
    brightest = images.max(axis=(1, 2, 3), keepdims=True) / 255
    veiled = images + np.float32(255 * thickness) * veil[:, None, :height, :width].astype(np.float32)
    veiled *= (brightest / (brightest + thickness)).astype(np.float32)
    np.minimum(veiled, 255, out=veiled)
    hidden: Bytes = veiled.astype(np.uint8)
    return hidden


def plasma(uniform: Floats, side: int, decay: float) -> Floats:
    """Return fractal height maps (N, side, side) in [0, 1] by the diamond-square algorithm.

    As in the published code the random addition is amplitude × U(−amplitude, amplitude), so its size falls by
    decay² from one scale to the next, and the map wraps around.

    Args:
        uniform: (N, side² − 1) numbers in [−1, 1].
        side: A power of two.
        decay: By what the amplitude is divided from scale to scale.
    """
    heights = np.zeros((len(uniform), side, side))
    amplitude, used, step = 100.0, 0, side

    def settle(points: Floats, neighbours: Floats) -> None:
        nonlocal used
        count = points[0].size
        points[:] = neighbours / 4 + amplitude**2 * uniform[:, used : used + count].reshape(points.shape)
        used += count

    while step >= 2:
        half = step // 2
        corners, centres = heights[:, ::step, ::step], heights[:, half::step, half::step]
        below = corners + np.roll(corners, -1, axis=1)
        settle(centres, below + np.roll(below, -1, axis=2))
        horizontal = centres + np.roll(centres, 1, axis=1) + corners + np.roll(corners, -1, axis=2)
        settle(heights[:, ::step, half::step], horizontal)
        vertical = centres + np.roll(centres, 1, axis=2) + corners + np.roll(corners, -1, axis=1)
        settle(heights[:, half::step, ::step], vertical)
        step, amplitude = half, amplitude / decay
    heights -= heights.min(axis=(1, 2), keepdims=True)
    heights /= heights.max(axis=(1, 2), keepdims=True)
    return heights
