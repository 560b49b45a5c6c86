"""Single image files: what their headers say, and their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from robustprune.data.remarks import Remarks
from robustprune.errors import DataError
from robustprune.runtime.files import printable

if TYPE_CHECKING:
    from PIL.Image import Image

_ORIENTATION = 0x0112
_TURNED_ASIDE = (5, 6, 7, 8)  # values of that tag with which height and width change places


class Layout(NamedTuple):
    """What a set of image files has in common."""

    channels: int  # 1 when every file is 8-bit grey, otherwise 3
    size: tuple[int, int] | None  # height, width as they are shown; None when they differ
    differing: tuple[str, ...]  # two files of different sizes, described; empty when there are none


def read_layout(paths: Sequence[Path], remarks: Remarks | None = None) -> Layout:
    """Return what the headers of the files have in common; no pixels are read.

    Args:
        paths: The files.
        remarks: Are told which images are turned, lose something, or are the first of several in a file.

    Raises:
        DataError: A file is not an image or has more than eight bits a channel.
    """
    grey, first, first_described = True, (0, 0), ""
    differing: tuple[str, ...] = ()
    for path in paths:
        with _open(path) as image:
            mode, size, turned = image.mode, (image.height, image.width), _orientation(image)
            if remarks is not None:
                _remark(image, path, turned, remarks)
            is_turned = image.format == "TIFF"  # by Pillow, and the size is that of after it
        if turned in _TURNED_ASIDE and not is_turned:
            size = size[::-1]
        grey &= mode == "L"
        if path is paths[0]:
            first, first_described = size, _described(path, size, turned)
        elif size != first and not differing:
            differing = (first_described, _described(path, size, turned))
    return Layout(1 if grey else 3, None if differing else first, differing)


def read_image(path: Path, channels: int) -> Tensor:
    """Return the pixels of a file as (C, H, W) uint8, turned as its EXIF orientation says; transparency is dropped.

    Raises:
        DataError: The file is missing, damaged, or has more than eight bits a channel.
    """
    with _open(path) as image:
        turned = 1 if image.format == "TIFF" else _orientation(image)  # TIFFs are turned by Pillow
        try:
            if image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")
            pixels = np.array(_upright(image.convert("L" if channels == 1 else "RGB"), turned))
        except Exception as error:  # a decoder given damaged bytes raises whatever it stumbles over
            raise DataError(f"{printable(path)} is a damaged image file ({error}); replace or remove it") from error
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels)).permute(2, 0, 1).contiguous()


def _open(path: Path) -> Image:
    from PIL import Image

    try:
        image = Image.open(path)
    except Exception as error:  # as above: not only OSError comes out of damaged headers
        raise DataError(
            f"{printable(path)} cannot be read as an image ({type(error).__name__}); replace or remove it"
        ) from error
    # Of colours with 16 bits Pillow takes the upper eight, and says so only in how it would decode them.
    if image.mode[0] in "IF" or any(";16" in str(tile) or _is_deep_ppm(tile) for tile in image.tile):
        image.close()
        raise DataError(f"{printable(path)} has more than 8 bits a channel (mode {image.mode}); convert it to 8 bits")
    return image


def _is_deep_ppm(tile: Any) -> bool:
    return bool(tile[0] == "ppm" and tile[3][1] > 255)  # decoder, its arguments: the mode and the largest value


def _orientation(image: Image) -> int:
    """Return how the header says that the image is to be turned: 1 is upright, 2 to 8 as EXIF has it."""
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys():
        return 1  # it may also stand behind the pixels, which looking there would decode
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF data says nothing, and the pixels may be sound
        return 1
    return value if value in range(1, 9) else 1


def _upright(image: Image, orientation: int) -> Image:
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def _remark(image: Image, path: Path, orientation: int, remarks: Remarks) -> None:
    if orientation != 1:
        remarks.add("turned, as their EXIF orientation says", path)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        remarks.add("transparency dropped", path)
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        remarks.add(f"{image.mode} converted to RGB", path)
    # A photograph of some telephones has a preview behind it (MPO).
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        remarks.add("only the first of several images in the file taken", path)


def _described(path: Path, size: tuple[int, int], orientation: int) -> str:
    turned = ", turned as its EXIF orientation says" if orientation in _TURNED_ASIDE else ""
    return f"{printable(path)} ({size[0]}x{size[1]}{turned})"
