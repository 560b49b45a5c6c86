"""Pictures of ice crystals made by a formula, for those who have no photographs of frost."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from robustprune.corruptions.arrays import Bytes, Floats
from robustprune.corruptions.draws import Draws

_HEIGHT, _WIDTH = 400, 600
_DIRECTIONS = 9
# Mean red, green, blue and the deviation of the grey levels. They are those of the five photographs the published
# sets draw from, as they come in the package imagecorruptions 1.1.2, so that the images darken and lose contrast
# alike; the second photograph is there twice.
_TONES = (
    (78, 149, 166, 18),
    (201, 205, 214, 22),
    (201, 205, 214, 22),
    (138, 153, 166, 29),
    (112, 123, 135, 43),
)
_CLOUDS = 0.8  # deviation of the clouds over that of the needles


@lru_cache(maxsize=1)
def grow_pictures() -> tuple[Bytes, ...]:
    """Return five pictures (400, 600, 3), the same on every call."""
    return tuple(_grow(number, tone) for number, tone in enumerate(_TONES))


def _grow(number: int, tone: tuple[int, int, int, int]) -> Bytes:
    """Grow needles in some directions over soft clouds, in the given tone."""
    draws = Draws(np.array([number], dtype=np.uint64))
    across, along = np.fft.fftfreq(_HEIGHT)[:, None], np.fft.rfftfreq(_WIDTH)
    needles = np.zeros((_HEIGHT, _WIDTH))
    for direction in range(_DIRECTIONS):
        angle = np.pi * (direction + draws.uniform(f"turn {direction}", 0, 1, 1).item()) / _DIRECTIONS
        lengthwise = np.cos(angle) * along + np.sin(angle) * across
        crosswise = np.cos(angle) * across - np.sin(angle) * along
        # A Gaussian streak of deviations 12 along and 1.5 across, of which the brightest tenth shows.
        streak = np.exp(-2 * np.pi**2 * ((12 * lengthwise) ** 2 + (1.5 * crosswise) ** 2))
        field = _filtered(draws, f"needles {direction}", streak)
        needles += np.maximum(field - 1.28, 0)
    distance = np.hypot(across, along)
    clouds = _filtered(draws, "clouds", 1 / np.maximum(distance, 1 / _WIDTH) ** 1.5)
    light = needles / needles.std() + _CLOUDS * clouds
    light = (light - light.mean()) / light.std()
    picture: Floats = np.array(tone[:3]) + tone[3] * light[..., None]
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _filtered(draws: Draws, purpose: str, response: Floats) -> Floats:
    noise = draws.normal(purpose, 0, 1, _HEIGHT, _WIDTH)[0]
    field: Floats = np.fft.irfft2(np.fft.rfft2(noise) * response, s=noise.shape)
    field -= field.mean()
    field /= field.std()
    return field
