"""The image sets there are: their loaders, where the files of published ones lie, and how they get there."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from robustprune.data.contract import DatasetRequest
from robustprune.errors import DataError, RobustPruneError
from robustprune.registry import Registry, first_line, read_tables
from robustprune.runtime.files import user_path

DATASETS = Registry("data set", "robustprune.datasets", read_tables("data")["PLUGINS"])
register_dataset = DATASETS.register
"""Returns a decorator that makes a loader known under a name in this process; see `DatasetLoader`."""


@dataclass(frozen=True)
class Place:
    """The files of one published image set."""

    files: tuple[str, ...]  # each may also be there with ".gz" at the end, where the set is published so
    subfolders: tuple[str, ...]  # below a root, in the order they are tried; "" is the root itself
    fetch: str  # what to do when they are missing
    torchvision: str | None = None  # the class whose downloader is used
    parts: tuple[dict[str, Any], ...] = ({},)  # arguments of that class, one a download
    system: tuple[Path, ...] = ()  # folders of the operating system
    gzipped: bool = False


_DOWNLOAD = "run again with --download (download=True in Python)"

PLACES = {
    "fashion-mnist": Place(
        files=tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")),
        subfolders=("", "FashionMNIST/raw"),
        fetch=f"apt-get install dataset-fashion-mnist, or {_DOWNLOAD}",
        torchvision="FashionMNIST",
        system=(Path("/usr/share/datasets/fashion-mnist"),),
        gzipped=True,
    ),
    "cifar10": Place(
        files=(*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"),
        subfolders=("", "cifar-10-batches-py"),
        fetch=f"{_DOWNLOAD}, or unpack cifar-10-python.tar.gz there",
        torchvision="CIFAR10",
    ),
    "cifar100": Place(
        files=("train", "test", "meta"),
        subfolders=("", "cifar-100-python"),
        fetch=f"{_DOWNLOAD}, or unpack cifar-100-python.tar.gz there",
        torchvision="CIFAR100",
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


class DatasetDescription(NamedTuple):
    """One line of a list of data sets."""

    name: str  # as it is typed, with what goes after the colon
    description: str
    available: bool | None  # None: it depends on the path given, or only the plug-in knows
    where: str  # the folder it is in, or where it is looked for


def describe_datasets(root: str | Path | None = None) -> list[DatasetDescription]:
    """Return every known image set with what it is and where it was found, below ``root`` first; nothing is read."""
    base = None if root is None else user_path(root).absolute()
    return [_describe(name, base) for name in DATASETS.names()]


def _describe(name: str, root: Path | None) -> DatasetDescription:
    if name in DATASETS.builtin:
        entry = DATASETS.builtin[name]
        if entry.argument:
            return DatasetDescription(f"{name}:{entry.argument}", entry.description, None, "the path you give")
        if name not in PLACES:
            return DatasetDescription(name, entry.description, True, "embedded or synthetic")
        found = locate(name, root)
        where = str(found) if found else f"not in {', '.join(map(str, folders(name, root)))}"
        return DatasetDescription(name, entry.description, found is not None, where)
    try:
        loader = DATASETS.get(name)
    except (RobustPruneError, ImportError, AttributeError) as error:
        return DatasetDescription(name, "a plug-in that cannot be loaded", False, str(error))
    where = f"plug-in {getattr(loader, '__module__', '')}".strip()
    return DatasetDescription(name, first_line(loader) or "no description", None, where)


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
    looked = []
    for folder in folders(name, request.root):
        missing = missing_files(name, folder)
        is_empty = len(missing) == len(PLACES[name].files)
        looked.append(str(folder) if is_empty else f"{folder} (incomplete: {', '.join(missing)} missing)")
    raise DataError(f"data set {name!r} was not found. Looked in {'; '.join(looked)}. To get it: {PLACES[name].fetch}.")


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
