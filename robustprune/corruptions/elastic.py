"""The elastic transformation: a random affine map, then small random displacements."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from robustprune.corruptions import linear
from robustprune.corruptions.arrays import Bytes, Floats, to_bytes
from robustprune.corruptions.draws import Draws

# Length of the displacements, their smoothness, and how far corners of the affine map move, all per side.
_ELASTIC = ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
# Single precision misses a plain area by less than this many grey levels, which truncation would turn into one.
_ROUNDING = 2.0**-10


def elastic_transform(images: Bytes, severity: int, draws: Draws) -> Bytes:
    """Stretched and wobbled."""
    height, width = images.shape[2:]
    _, _, shift = _ELASTIC[severity - 1]
    corners = draws.uniform("corners", -shift, shift, 3, 2) * min(height, width)
    return elastic_by(images, severity, corners, draws.symmetric("wobble", 2, height, width))


def elastic_by(images: Bytes, severity: int, corners: Floats, wobble: Floats) -> Bytes:
    """Move three control points by ``corners`` (N, 3, 2) in pixels (x, y), then displace by a smoothed ``wobble``.

    Args:
        images: (N, C, H, W).
        severity: 1 to 5.
        corners: How far the control points move.
        wobble: (N, 2, H, W) in [−1, 1], for x and for y.
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
        moved = linear.gaussian_blur(wobble, smoothness * side, border="reflect", truncate=3.0).transpose(0, 2, 3, 1)
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
