"""What files and folders hold, and, much faster, whether they look as they did."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from robustprune.runtime.files import hash_json, user_path

# What results, or lists of image sets and options, come from besides this package.
_PACKAGES = ("torch", "torchvision", "timm", "torchattacks", "robustbench", "scikit-learn", "torch-pruning", "pydantic")


def look_at(path: str | Path) -> str:
    """Return what a file or folder looks like from outside: names, sizes, times; empty where there is nothing."""
    path = user_path(path)
    if not path.exists():
        return ""
    return hash_json([[str(file.relative_to(path)), *_stat(file)] for file in _files(path)])


def hash_content(path: str | Path) -> str:
    """Return the SHA-256 over the files at a place, and of those in folders within it over their names and sizes.

    Sets of millions of images lie in such folders; reading them all would take longer than evaluating a network.
    """
    path = user_path(path)
    found = []
    for file in _files(path):
        name = file.relative_to(path)
        found.append([name.as_posix(), _digest(file) if len(name.parts) < 2 else str(file.stat().st_size)])
    return hash_json(found)


@cache
def look_at_code() -> str:
    """Return what this package's code, and that of the packages it stands on, looks like from outside."""
    return hash_json([look_at(Path(__file__).parent.parent), *(_version(name) for name in _PACKAGES)])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            yield Path(folder) / name


def _stat(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
