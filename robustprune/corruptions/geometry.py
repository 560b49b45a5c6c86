"""How the geometry of the corruptions, which is published for images of 32 pixels, follows the image size."""

from __future__ import annotations

REFERENCE_SIDE = 32


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
