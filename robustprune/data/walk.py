"""Which image files lie below a folder, and which are left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from robustprune.data.remarks import Remarks

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
