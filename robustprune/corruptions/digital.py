"""What processing does to a picture: brightness, contrast, saturation, elastic distortion, pixelation and JPEG."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from robustprune.corruptions import raster
from robustprune.corruptions.image_randomness import ImageRandomness
from robustprune.corruptions.raster import Bytes, Floats, to_bytes

_BRIGHTNESS = (0.05, 0.1, 0.15, 0.2, 0.3)  # added to the value of HSV
_CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)  # what is left of the distance to the mean
_SATURATE = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))  # factor of, and addition to, saturation
_PIXELATE = (0.95, 0.9, 0.85, 0.75, 0.65)  # side of the coarse image over that of the original
_JPEG = (80, 65, 58, 50, 40)  # quality
# Length of the displacements, their smoothness, and how far corners of the affine map move, all per side.
_ELASTIC = ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
# Single precision misses a plain area by less than this many grey levels, which truncation would turn into one.
_ROUNDING = 2.0**-10


def brightness(images: Bytes, severity: int, draws: ImageRandomness) -> Bytes:
    """A higher value in HSV: the largest channel rises, the others keep their ratio to it."""
    value = images.max(axis=1, keepdims=True)
    raised: Bytes = _brightened(severity).take((value.astype(np.intp) << 8) | images)
    return raised


@lru_cache(maxsize=5)
def _brightened(severity: int) -> Bytes:
    """Return what becomes of a channel, flat by (value, channel)."""
    value, channel = np.arange(256.0)[:, None], np.arange(256.0)
    raised = np.minimum(value + 255 * _BRIGHTNESS[severity - 1], 255)
    # Black has no ratios: all its channels rise alike. The sliver keeps 255 · (1/255) from becoming 0.
    ratio = np.divide(channel, value, out=np.ones((256, 256)), where=value > 0)
    return to_bytes(raised * ratio + 1e-9).ravel()


def contrast(images: Bytes, severity: int, draws: ImageRandomness) -> Bytes:
    """Pixels moved towards the mean of their channel."""
    kept = _CONTRAST[severity - 1]
    pixels = images.shape[2] * images.shape[3]
    mean = images.sum(axis=(2, 3), keepdims=True, dtype=np.int64) / pixels
    # Without the sliver a plain image could lose a grey level to rounding.
    return to_bytes(images * kept + (mean * (1 - kept) + 1e-9))


def saturate(images: Bytes, severity: int, draws: ImageRandomness) -> Bytes:
    """Another saturation in HSV; an image without colour has none to change and stays as it is.

    Grey pixels of a colour image have hue 0, which is red, and turn reddish where saturation is added to: so it
    is in the published set.
    """
    if images.shape[1] == 1:
        return images
    factor, addition = _SATURATE[severity - 1]
    pixels = images.astype(np.float64)
    value, least = pixels.max(axis=1, keepdims=True), pixels.min(axis=1, keepdims=True)
    spread = value - least
    saturation = np.divide(spread, value, out=np.zeros_like(value), where=value > 0)
    changed = np.clip(saturation * factor + addition, 0, 1)
    # How far each channel is below the largest, as a share of the spread.
    below = np.divide(value - pixels, spread, out=np.zeros_like(pixels), where=spread > 0)
    below[:, 1:][np.broadcast_to(spread == 0, below[:, 1:].shape)] = 1
    return to_bytes(value * (1 - changed * below) + 1e-9)


def elastic_transform(images: Bytes, severity: int, draws: ImageRandomness) -> Bytes:
    """Stretched and wobbled."""
    height, width = images.shape[2:]
    _, _, shift = _ELASTIC[severity - 1]
    corners = draws.uniform("corners", -shift, shift, 3, 2) * min(height, width)
    return elastic_by(images, severity, corners, draws.symmetric("wobble", 2, height, width))


def elastic_by(images: Bytes, severity: int, corners: Floats, wobble: Floats) -> Bytes:
    """Move three control points by ``corners`` (N, 3, 2) in pixels, x and y, then displace by a smoothed ``wobble``.

    That is (N, 2, H, W) in [−1, 1], for x and for y.
    """
    height, width = images.shape[2:]
    side = min(height, width)
    length, smoothness, _ = _ELASTIC[severity - 1]
    sides = np.array([width, height])
    columns, rows = np.arange(float(width))[:, None], np.arange(float(height))[:, None, None]
    affine = _affine(corners, height, width)[:, None, None]  # (N, 1, 1, 2, 3)
    # The first map mirrors without repeating the edge, the second repeats it: OpenCV's and SciPy's customs. Either
    # has a scale of −1 … 1 of its own.
    along, across = affine[..., 0] * columns, affine[..., 1] * rows + affine[..., 2]  # (N, 1, W, 2), (N, H, 1, 2)
    grid = _scaled(along, 2 / (sides - 1)) + _scaled(across, 2 / (sides - 1), -1)
    pixels = _read(torch.from_numpy(images).float(), grid, align_corners=True)
    if length:
        moved = raster.gaussian_blur(wobble, smoothness * side, border="reflect", truncate=3.0).transpose(0, 2, 3, 1)
        still = np.stack(np.broadcast_arrays(columns[:, 0], rows[..., 0]), axis=2)  # (H, W, 2)
        grid = _scaled(moved, length * side * 2 / sides) + _scaled(still, 2 / sides, 1 / sides - 1)
        pixels = _read(pixels, grid, align_corners=False)
    return to_bytes(pixels.numpy() + np.float32(_ROUNDING))


def _affine(corners: Floats, height: int, width: int) -> Floats:
    """Return the maps (N, 2, 3) from places in the result to places in the image."""
    reach = min(height, width) // 3
    centre = np.array([width // 2, height // 2], dtype=float)
    points = centre + reach * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = np.concatenate([points + corners, np.ones((len(corners), 3, 1))], axis=2)
    return np.linalg.solve(moved, np.broadcast_to(points, (len(corners), 3, 2))).transpose(0, 2, 1)


def _scaled(values: Floats, factor: Floats, addition: Floats | float = 0.0) -> NDArray[np.float32]:
    return (values * factor + addition).astype(np.float32)


def _read(pixels: torch.Tensor, grid: NDArray[np.float32], *, align_corners: bool) -> torch.Tensor:
    """Return the images read at places (N, H, W, 2) on the scale −1 … 1, linearly, mirrored at the border."""
    places = torch.from_numpy(np.ascontiguousarray(grid))
    return F.grid_sample(pixels, places, mode="bilinear", padding_mode="reflection", align_corners=align_corners)


def pixelate(images: Bytes, severity: int, draws: ImageRandomness) -> Bytes:
    """Reduced by averaging and enlarged by repetition."""
    height, width = images.shape[2:]
    coarse = int(width * _PIXELATE[severity - 1]), int(height * _PIXELATE[severity - 1])

    def change(picture: Image.Image) -> Image.Image:
        return picture.resize(coarse, Image.Resampling.BOX).resize((width, height), Image.Resampling.BOX)

    return _one_by_one(images, change)


def jpeg_compression(images: Bytes, severity: int, draws: ImageRandomness) -> Bytes:
    """Saved as JPEG (4:2:0, as by default) and read again."""

    def change(picture: Image.Image) -> Image.Image:
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=_JPEG[severity - 1])
        return Image.open(stream)

    return _one_by_one(images, change)


def _one_by_one(images: Bytes, change: Callable[[Image.Image], Image.Image]) -> Bytes:
    """Return the images as Pillow, which knows no batches, changes each of them."""
    pixels = np.ascontiguousarray(images.transpose(0, 2, 3, 1))  # (N, H, W, C)
    pixels = pixels[..., 0] if images.shape[1] == 1 else pixels
    changed = [np.asarray(change(Image.fromarray(each))) for each in pixels]
    return np.stack(changed).reshape(-1, *images.shape[2:], images.shape[1]).transpose(0, 3, 1, 2)
