"""Frost: a crop of a picture of ice crystals laid over the image."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from robustprune.corruptions import linear
from robustprune.corruptions.arrays import LUMA, Bytes, to_bytes
from robustprune.corruptions.crystals import grow_pictures
from robustprune.corruptions.draws import Draws
from robustprune.corruptions.geometry import geometry_scale
from robustprune.errors import CorruptionError

_FROST = ((100, 20), (100, 30), (90, 40), (85, 40), (75, 45))  # percent of the image and of the frost
_SHRINK = 0.2  # of the pictures, for images of 32 pixels
_ENDINGS = (".png", ".jpg", ".jpeg")
# The authors' folder. Of these six their code draws from the first five, so it is the sixth that is left out.
_AUTHORS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg", "frost6.jpg")


def frost(images: Bytes, severity: int, draws: Draws, *, folder: str | Path | None = None) -> Bytes:
    """Ice crystals on the window: grown by a formula, or cut from pictures in a folder of yours."""
    channels, height, width = images.shape[1:]
    files = () if folder is None else _find(_folder(folder))
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
    rows, columns = (linear.resampling(side, round(side * factor), 1 / factor) for side in sides)
    reduced = np.rint(linear.along_axes(np.ascontiguousarray(picture.transpose(2, 0, 1)), rows, columns))
    if channels == 1:
        reduced = np.rint(np.tensordot(LUMA, reduced, axes=1))[None]
    return to_bytes(reduced)


def _folder(given: Any) -> Path:
    if not isinstance(given, str | Path) or not str(given):
        raise CorruptionError(f"the folder of frost pictures must be a path, got {given!r}")
    return Path(given)


def _find(folder: Path) -> tuple[tuple[Path, int], ...]:
    """Return the pictures in a folder, each with its time of change, so that one that was changed is read again.

    All of them, but for the folder of the authors: there the five that the published sets were made from.
    """
    there = folder.glob("[!.]*") if folder.is_dir() else ()
    files = sorted(path for path in there if path.suffix.lower() in _ENDINGS and path.is_file())
    if tuple(path.name for path in files) == _AUTHORS:
        files.pop()
    if not files:
        raise CorruptionError(
            f"there are no frost pictures in {folder}; it must be a folder of {', '.join(_ENDINGS)} files. "
            "Leave it out to use frost grown by a formula"
        )
    return tuple((path, path.stat().st_mtime_ns) for path in files)


def _read(path: Path) -> Bytes:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CorruptionError(f"the frost picture {path} cannot be read: {error}") from error
