"""Changes of every pixel's colour: brightness, contrast and saturation."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from robustprune.corruptions.arrays import Bytes, to_bytes
from robustprune.corruptions.draws import Draws

_BRIGHTNESS = (0.05, 0.1, 0.15, 0.2, 0.3)  # added to the value of HSV
_CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)  # what is left of the distance to the mean
_SATURATE = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))  # factor of, and addition to, saturation


def brightness(images: Bytes, severity: int, draws: Draws) -> Bytes:
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


def contrast(images: Bytes, severity: int, draws: Draws) -> Bytes:
    """Pixels moved towards the mean of their channel."""
    kept = _CONTRAST[severity - 1]
    pixels = images.shape[2] * images.shape[3]
    mean = images.sum(axis=(2, 3), keepdims=True, dtype=np.int64) / pixels
    # Without the sliver a plain image could lose a grey level to rounding.
    return to_bytes(images * kept + (mean * (1 - kept) + 1e-9))


def saturate(images: Bytes, severity: int, draws: Draws) -> Bytes:
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
