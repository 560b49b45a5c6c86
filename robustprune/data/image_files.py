"""Single image files: which there are, what their headers say, and their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from robustprune.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp", ".tif", ".tiff"})


class Layout(NamedTuple):
    """What a set of image files has in common."""

    channels: int  # 1 when every file is 8-bit grey, otherwise 3
    size: tuple[int, int] | None  # height, width; None when they differ
    differing: tuple[str, ...]  # two files of different sizes, described; empty when there are none


def list_images(folder: Path) -> list[Path]:
    """Return the image files anywhere below ``folder``, sorted by path; hidden files are left out."""
    return sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


def read_layout(paths: Sequence[Path]) -> Layout:
    """Return what the headers of the files have in common; no pixels are read.

    Raises:
        DataError: A file is not an image or has more than eight bits a channel.
    """
    grey, first = True, (0, 0)
    differing: tuple[str, ...] = ()
    for path in paths:
        with _open(path) as image:
            mode, size = image.mode, (image.height, image.width)
        grey &= mode == "L"
        if path is paths[0]:
            first = size
        elif size != first and not differing:
            differing = (_described(paths[0], first), _described(path, size))
    return Layout(1 if grey else 3, None if differing else first, differing)


def read_image(path: Path, channels: int) -> Tensor:
    """Return the pixels of a file as (C, H, W) uint8; transparency is dropped.

    Raises:
        DataError: The file is missing, damaged, or has more than eight bits a channel.
    """
    with _open(path) as image:
        try:
            if image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")
            pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
        except Exception as error:  # a decoder given damaged bytes raises whatever it stumbles over
            raise DataError(f"{path} is a damaged image file ({error}); replace or remove it") from error
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels)).permute(2, 0, 1).contiguous()


def _open(path: Path) -> Image:
    from PIL import Image

    try:
        image = Image.open(path)
    except Exception as error:  # as above: not only OSError comes out of damaged headers
        raise DataError(f"{path} cannot be read as an image ({type(error).__name__}); replace or remove it") from error
    if image.mode[0] in "IF":
        image.close()
        raise DataError(f"{path} has more than 8 bits a channel (mode {image.mode}); convert it to 8 bits")
    return image


def _described(path: Path, size: tuple[int, int]) -> str:
    return f"{path} ({size[0]}x{size[1]})"
