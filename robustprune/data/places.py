"""Where the files of published image sets lie on a machine, and how they get there."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustprune.data.contract import DatasetRequest
from robustprune.errors import DataError
from robustprune.runtime.files import user_path


@dataclass(frozen=True)
class Place:
    """The files of one published image set."""

    files: tuple[str, ...]  # each may also be there with ".gz" at the end, where the set is published so
    subfolders: tuple[str, ...]  # below a root, in the order they are tried; "" is the root itself
    fetch: str  # what to do when they are missing
    torchvision: str | None = None  # the class whose downloader is used
    parts: tuple[dict[str, Any], ...] = ()  # arguments of that class, one a download
    system: tuple[Path, ...] = ()  # folders of the operating system
    gzipped: bool = False


_TRAIN_AND_TEST = ({"train": True}, {"train": False})
_DOWNLOAD = "run again with --download (download=True in Python)"

PLACES = {
    "fashion-mnist": Place(
        files=(
            "train-images-idx3-ubyte",
            "train-labels-idx1-ubyte",
            "t10k-images-idx3-ubyte",
            "t10k-labels-idx1-ubyte",
        ),
        subfolders=("", "FashionMNIST/raw"),
        fetch=f"apt-get install dataset-fashion-mnist, or {_DOWNLOAD}",
        torchvision="FashionMNIST",
        parts=_TRAIN_AND_TEST,
        system=(Path("/usr/share/datasets/fashion-mnist"),),
        gzipped=True,
    ),
    "cifar10": Place(
        files=(*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"),
        subfolders=("", "cifar-10-batches-py"),
        fetch=f"{_DOWNLOAD}, or unpack cifar-10-python.tar.gz there",
        torchvision="CIFAR10",
        parts=_TRAIN_AND_TEST,
    ),
    "cifar100": Place(
        files=("train", "test", "meta"),
        subfolders=("", "cifar-100-python"),
        fetch=f"{_DOWNLOAD}, or unpack cifar-100-python.tar.gz there",
        torchvision="CIFAR100",
        parts=_TRAIN_AND_TEST,
    ),
    "svhn": Place(
        files=("train_32x32.mat", "test_32x32.mat"),
        subfolders=("", "svhn"),
        fetch=_DOWNLOAD,
        torchvision="SVHN",
        parts=({"split": "train"}, {"split": "test"}),
    ),
    "tiny-imagenet": Place(
        files=("wnids.txt", "train", "val/images", "val/val_annotations.txt"),
        subfolders=("", "tiny-imagenet-200"),
        fetch=(
            "get tiny-imagenet-200.zip from the Tiny ImageNet page of Stanford's course CS231n "
            "(http://cs231n.stanford.edu/tiny-imagenet-200.zip) and unpack it there; there is no downloader"
        ),
    ),
}


def default_root() -> Path:
    """Return the folder image sets are looked for in: $ROBUSTPRUNE_DATA or ~/.cache/robustprune/data."""
    named = os.environ.get("ROBUSTPRUNE_DATA")
    return user_path(named if named and named.strip() else "~/.cache/robustprune/data").absolute()


def folders(name: str, root: Path | None) -> list[Path]:
    """Return where the set is looked for, in order: below ``root``, the system's folders, the usual root."""
    place = PLACES[name]
    given = [] if root is None else [root / sub for sub in place.subfolders]
    usual = [default_root() / sub for sub in place.subfolders]
    return list(dict.fromkeys([*given, *place.system, *usual]))


def missing_files(name: str, folder: Path) -> list[str]:
    """Return which of the set's files are not in ``folder``."""
    place = PLACES[name]
    endings = ("", ".gz") if place.gzipped else ("",)
    return [file for file in place.files if not any((folder / (file + end)).exists() for end in endings)]


def locate(name: str, root: Path | None) -> Path | None:
    """Return the first folder that holds the whole set, if any."""
    return next((folder for folder in folders(name, root) if not missing_files(name, folder)), None)


def find_folder(request: DatasetRequest) -> Path:
    """Return the folder that holds the set asked for, downloading it first if it may be.

    Raises:
        DataError: It is not there or could not be downloaded; the message says where it was looked for.
    """
    name = request.name
    found = locate(name, request.root)
    if found is None and request.download and PLACES[name].torchvision:
        _download(name, request.root or default_root())
        found = locate(name, request.root)
    if found is not None:
        return found
    looked = "; ".join(_verdict(name, folder) for folder in folders(name, request.root))
    raise DataError(f"data set {name!r} was not found. Looked in {looked}. To get it: {PLACES[name].fetch}.")


def _verdict(name: str, folder: Path) -> str:
    missing = missing_files(name, folder)
    if len(missing) == len(PLACES[name].files):
        return str(folder)
    return f"{folder} (incomplete: {', '.join(missing)} missing)"


def _download(name: str, root: Path) -> None:
    import torchvision.datasets

    place = PLACES[name]
    fetch = getattr(torchvision.datasets, str(place.torchvision))
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Its messages are progress, which belongs on stderr; its warnings are about files as published.
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for part in place.parts:
                fetch(root=str(root), download=True, **part)
    except Exception as error:  # network, disk, checksum and archive errors are all of different kinds
        raise DataError(
            f"downloading {name!r} into {root} failed: {error}. Try again, or put the files there yourself"
        ) from error
