"""Snow, frost and fog."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustprune.corruptions import raster
from robustprune.corruptions.blur import directional_blur
from robustprune.corruptions.image_randomness import ImageRandomness
from robustprune.corruptions.raster import LUMA, Bytes, Floats, canvas, geometry_scale, to_bytes
from robustprune.errors import CorruptionError

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

_FROST = ((100, 20), (100, 30), (90, 40), (85, 40), (75, 45))  # percent of the image and of the frost
_SHRINK = 0.2  # of the pictures, for images of 32 pixels
_ENDINGS = (".png", ".jpg", ".jpeg")
# The authors' folder. Of these six their code draws from the first five, so it is the sixth that is left out.
_AUTHORS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg", "frost6.jpg")
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


def snow(images: Bytes, severity: int, draws: ImageRandomness) -> Bytes:
    """Falling flakes over a whitened image."""
    mean, deviation, *_ = _SNOW[severity - 1]
    field = draws.normal("flakes", mean, deviation, *canvas(*images.shape[2:]))
    angles = draws.uniform("angle", -135, -45, 1)[:, 0]
    return snow_over(images, severity, field, angles)


def snow_over(images: Bytes, severity: int, field: Floats, angles: Floats) -> Bytes:
    """Let it snow: flakes where the field (N, h, w) is high, falling at the angles (N,) in degrees."""
    _, _, zoom, threshold, radius, deviation, kept = _SNOW[severity - 1]
    if zoom > 1:
        field = raster.along_axes(field, *(raster.centre_zoom(side, zoom) for side in field.shape[1:]))
    flakes = to_bytes(np.where(field < threshold, 0, field) * 255)[:, None]
    flakes = directional_blur(flakes, angles, radius, deviation)
    flakes = to_bytes(raster.enlarged(flakes, *images.shape[2:]))
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


def frost(images: Bytes, severity: int, draws: ImageRandomness, *, folder: str | Path | None = None) -> Bytes:
    """Ice crystals on the window: grown by a formula, or cut from pictures in a folder of yours."""
    channels, height, width = images.shape[1:]
    files = () if folder is None else _find(folder)
    pictures = _pictures(files, channels, height, width)
    chosen = draws.integers("picture", 1, len(pictures))[:, 0]
    places = draws.uniform("place", 0, 1, 2)
    ice = np.empty_like(images)
    for number, picture in enumerate(pictures):
        wanted = chosen == number
        windows = np.lib.stride_tricks.sliding_window_view(picture, (height, width), axis=(1, 2))
        room = np.array(windows.shape[1:3]) - 1
        down, right = (places[wanted] * room).astype(int).T
        ice[wanted] = windows[:, down, right].transpose(1, 0, 2, 3)
    return frost_over(images, severity, ice)


def frost_over(images: Bytes, severity: int, ice: Bytes) -> Bytes:
    """Lay crops of frost pictures, of the shape of the images, over them."""
    kept, added = (np.uint16(percent) for percent in _FROST[severity - 1])
    return np.minimum((images * kept + ice * added) // np.uint16(100), 255).astype(np.uint8)


@lru_cache(maxsize=4)
def _pictures(files: tuple[tuple[Path, int], ...], channels: int, height: int, width: int) -> tuple[Bytes, ...]:
    """Return the pictures (C, ≥ H + 1, ≥ W + 1), reduced to the scale of the images; grown ones without files."""
    whole = [_read(path) for path, _ in files] or grow_pictures()
    return tuple(_reduce(picture, channels, height, width) for picture in whole)


def _reduce(picture: Bytes, channels: int, height: int, width: int) -> Bytes:
    # No smaller than a crop needs; reduced without antialiasing, as the published crystals are.
    sides = picture.shape[:2]
    least = max((height + 1) / sides[0], (width + 1) / sides[1])
    factor = max(_SHRINK * geometry_scale(height, width), least)
    rows, columns = (raster.resampling(side, round(side * factor), 1 / factor) for side in sides)
    reduced = np.rint(raster.along_axes(np.ascontiguousarray(picture.transpose(2, 0, 1)), rows, columns))
    if channels == 1:
        reduced = np.rint(np.tensordot(LUMA, reduced, axes=1))[None]
    return to_bytes(reduced)


def _find(given: Any) -> tuple[tuple[Path, int], ...]:
    """Return the pictures in a folder, each with its time of change, so that one that was changed is read again.

    All of them, but for the folder of the authors: there the five that the published sets were made from.
    """
    if not isinstance(given, str | Path) or not str(given):
        raise CorruptionError(f"the folder of frost pictures must be a path, got {given!r}")
    files = sorted(path for path in Path(given).glob("[!.]*") if path.suffix.lower() in _ENDINGS and path.is_file())
    if tuple(path.name for path in files) == _AUTHORS:
        files.pop()
    if not files:
        raise CorruptionError(
            f"there are no frost pictures in {given}; it must be a folder of {', '.join(_ENDINGS)} files. "
            "Leave it out to use frost grown by a formula"
        )
    return tuple((path, path.stat().st_mtime_ns) for path in files)


def _read(path: Path) -> Bytes:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except Exception as error:  # a damaged file raises whatever its decoder stumbles over
        raise CorruptionError(f"the frost picture {path} cannot be read: {error}") from error


@lru_cache(maxsize=1)
def grow_pictures() -> tuple[Bytes, ...]:
    """Return five pictures (400, 600, 3), the same on every call."""
    return tuple(_grow(number, tone) for number, tone in enumerate(_TONES))


def _grow(number: int, tone: tuple[int, int, int, int]) -> Bytes:
    """Grow needles in some directions over soft clouds, in the given tone."""
    draws = ImageRandomness(np.array([number], dtype=np.uint64))
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


def _filtered(draws: ImageRandomness, purpose: str, response: Floats) -> Floats:
    noise = draws.normal(purpose, 0, 1, _HEIGHT, _WIDTH)[0]
    field: Floats = np.fft.irfft2(np.fft.rfft2(noise) * response, s=noise.shape)
    field -= field.mean()
    field /= field.std()
    return field


def fog(images: Bytes, severity: int, draws: ImageRandomness) -> Bytes:
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
    decay² from one scale to the next, and the map wraps around. The side is a power of two, ``uniform``
    (N, side² − 1) numbers in [−1, 1].
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
