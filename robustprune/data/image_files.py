"""Image files: which lie below a folder, what their headers say, and their pixels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from robustprune.data.contract import Remarks
from robustprune.errors import DataError
from robustprune.runtime.files import printable

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".pbm", ".pgm", ".ppm", ".pnm", ".webp", ".tif", ".tiff", ".gif"}
)
_OTHER_FORMATS = frozenset(
    {".avif", ".heic", ".heif", ".jp2", ".j2k", ".jxl", ".tga", ".ico", ".psd", ".svg", ".exr", ".hdr", ".dcm"}
    | {".dng", ".cr2", ".nef", ".arw", ".raw", ".npy"}
)
# Left behind by macOS, Synology and Windows; a thumbnail in one of them is no image of the set.
_JUNK = frozenset({"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"})
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")
_ORIENTATION = 0x0112
_TURNED_ASIDE = (5, 6, 7, 8)  # values of that tag with which height and width change places


def list_images(folder: Path, remarks: Remarks | None = None) -> list[Path]:
    """Return the image files anywhere below ``folder``, sorted by path; links are followed, hidden files left out.

    Args:
        folder: Where to look.
        remarks: Are told what was left out, and what lies in folders of folders.

    Raises:
        OSError: A folder cannot be read.
    """
    remarks = remarks or Remarks(folder)
    found: list[Path] = []
    seen = ancestry(folder)
    for place, subfolders, names in os.walk(folder, followlinks=True, onerror=_raise):
        here = Path(place)
        subfolders[:] = list(_to_enter(here, subfolders, seen, remarks))
        images = [here / name for name in names if is_image(here / name, remarks)]
        if here != folder:
            for path in images:
                remarks.add("counted in the class whose folder holds their folder", path)
        found += images
    return sorted(found)


def is_image(path: Path, remarks: Remarks) -> bool:
    """Return whether a file is to be read, as its name says; if it looks like an image and is not, say so."""
    if path.name.startswith("._"):  # what macOS keeps beside a file
        return False
    if path.exists() and not path.is_file():  # a pipe or a device, on which reading may wait for ever
        remarks.add("left out, as they are no ordinary files", path)
        return False
    if path.suffix.lower() in IMAGE_SUFFIXES:
        if path.name.startswith("."):
            remarks.add("left out, as hidden", path)
        return not path.name.startswith(".")
    if is_dangling(path):
        remarks.add("left out, as links that lead nowhere", path)
    elif path.suffix.lower() in _OTHER_FORMATS:
        remarks.add("left out, as files of that format are not read", path)
    elif _starts_like_one(path):
        remarks.add("left out, as their names do not end as those of images", path)
    return False


def is_junk(name: str) -> bool:
    """Return whether a folder of that name is hidden, or made by a system for itself."""
    return name.startswith(".") or name.lower() in _JUNK


def is_dangling(path: Path) -> bool:
    """Return whether it is a link to something that is not there."""
    return path.is_symlink() and not path.exists()


def ancestry(folder: Path) -> set[tuple[int, int]]:
    """Return the identities of a folder and all that it lies in: a link to one of them would lead in a circle."""
    real = folder.resolve()
    return {identity(each) for each in (real, *real.parents)}


def remark_hidden(folder: Path, remarks: Remarks) -> None:
    """Say which images a hidden folder holds."""
    for place, _, names in os.walk(folder):
        for name in names:
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith("._"):
                remarks.add("left out, as their folder is hidden", Path(place, name))


def _to_enter(here: Path, names: list[str], seen: set[tuple[int, int]], remarks: Remarks) -> Iterator[str]:
    for name in sorted(names):
        if is_junk(name):
            remark_hidden(here / name, remarks)
            continue
        own = identity(here / name)
        if own in seen:
            remarks.add("left out, as the same folder is read already", here / name)
            continue
        seen.add(own)
        yield name


def identity(path: Path) -> tuple[int, int]:
    """Return what a file or folder is told by, whichever link leads to it."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _starts_like_one(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(4).startswith(_MAGIC)
    except OSError:
        return False


def _raise(error: OSError) -> None:
    raise error


class Layout(NamedTuple):
    """What a set of image files has in common."""

    channels: int  # 1 when every file is 8-bit grey, otherwise 3
    size: tuple[int, int] | None  # height, width as they are shown; None when they differ
    differing: tuple[str, ...]  # two files of different sizes, described; empty when there are none


def read_layout(paths: Sequence[Path], remarks: Remarks) -> Layout:
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
