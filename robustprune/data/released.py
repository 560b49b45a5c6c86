"""Corrupted test sets as they are published: arrays like CIFAR-10-C, image folders like ImageNet-C.

Arrays (CIFAR-10-C, CIFAR-100-C, C-bar, and what `robustprune corrupt` writes): ``NAME.npy`` uint8 (5·N, H, W, C), of
which rows (s − 1)·N … s·N are severity s in the order of the test set, and ``labels.npy`` (5·N,). Folders
(Tiny-ImageNet-C, ImageNet-C): ``NAME/SEVERITY/CLASS/*.JPEG``, or the same below a folder for each family.
"""

from __future__ import annotations

import csv
import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustprune.data.contract import DatasetRequest
from robustprune.data.image_folders import load_imagefolder
from robustprune.data.pixels import convert_channels, resize_images
from robustprune.data.splits import Split
from robustprune.data.streaming import StreamedSplit
from robustprune.errors import DataError, DataWarning
from robustprune.runtime.files import user_path

_SEVERITIES = 5
_TABLE = Path(__file__).with_name("published_md5.csv").read_text().splitlines()
PUBLISHED_MD5 = {row.pop("file"): set(row.values()) for row in csv.DictReader(_TABLE)}
"""File → its MD5 sums in Zenodo records 2535967 and 3555552, on which three independent loaders of the sets agree."""


@dataclass(frozen=True)
class ReleasedSet:
    """A published corrupted set on disk."""

    folder: Path
    names: tuple[str, ...]  # the corruptions that are there
    is_paired: bool  # whether image i is the test set's image i, corrupted
    part: Callable[[str, int], ArrayPart | Split]  # the images of a corruption at a severity, read when they are taken

    def published(self, name: str) -> bool | None:
        """Return whether a file is the published one, bit for bit; None if nobody knows its checksum."""
        if not self.is_paired or name not in PUBLISHED_MD5:
            return None
        with (self.folder / f"{name}.npy").open("rb") as stream:
            return hashlib.file_digest(stream, "md5").hexdigest() in PUBLISHED_MD5[name]


@dataclass(frozen=True)
class ArrayPart:
    """The images of one corruption at one severity, as rows of an array on disk."""

    array: NDArray[np.uint8]  # (N, H, W[, C])
    labels: Tensor  # (N,) int64
    image_size: tuple[int, int]
    channels: int

    def take(self, indices: Tensor) -> Tensor:
        """Return the images at ``indices`` (n,), as (n, C, H, W) uint8."""
        images = self.array[indices.numpy()]
        images = images[..., None] if images.ndim == 3 else images
        pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        return resize_images(convert_channels(pixels, self.channels), self.image_size)


def open_released(
    folder: str | Path, classes: Sequence[str], *, image_size: tuple[int, int], channels: int, workers: int = 0
) -> ReleasedSet:
    """Open a published corrupted set; nothing of the images is read yet.

    Its images come in the size (height, width) and channels asked for. Image folders are matched by name with
    ``classes``, those of the test set.

    Raises:
        DataError: There is no such folder, nothing in it that looks like a corrupted set, or not every severity.
    """
    place = user_path(folder)
    if not str(folder).strip() or not place.is_dir():
        raise DataError(f"there is no folder {folder} with a corrupted set")
    # Not the hidden ones: what is being written, and the resource forks that macOS packs with a file.
    names = tuple(sorted(path.stem for path in place.glob("[!.]*.npy") if path.stem != "labels"))
    if names:
        if not (place / "labels.npy").is_file():
            raise DataError(f"there are corrupted images in {place}, but no labels.npy with their labels")
        labels = np.array(_map(place / "labels.npy"))

        def part(name: str, severity: int) -> ArrayPart:
            array, own = _rows(place / f"{name}.npy", labels, severity)
            return ArrayPart(array, own, image_size, channels)

        return ReleasedSet(place, names, True, part)
    owners = _find_folders(place)

    def split(name: str, severity: int) -> Split:
        return load_shifted_folder(owners[name] / str(severity), classes, image_size, channels, workers)

    return ReleasedSet(place, tuple(sorted(owners)), False, split)


def _find_folders(place: Path) -> dict[str, Path]:
    """Return the folder of each corruption, which holds one for each severity."""
    # Deeper only where there is nothing above: NAME/SEVERITY/CLASS is as deep as FAMILY/NAME/SEVERITY.
    owners = [path.parent for path in sorted(place.glob("[!.]*/1")) or sorted(place.glob("[!.]*/[!.]*/1"))]
    found: dict[str, Path] = {}
    for owner in owners:
        if found.setdefault(owner.name, owner) != owner:
            raise DataError(f"{place} holds {owner.name} twice, in {found[owner.name]} and {owner}; move one of them")
        lacking = [str(number) for number in range(1, _SEVERITIES + 1) if not (owner / str(number)).is_dir()]
        if lacking:
            raise DataError(
                f"{owner} has no folder for severity {' and '.join(lacking)} of {owner.name}; fetch it again"
            )
    if not found:
        raise DataError(
            f"{place} holds neither NAME.npy arrays as in CIFAR-10-C nor NAME/SEVERITY/CLASS folders as in ImageNet-C"
        )
    return found


def _rows(path: Path, labels: NDArray[Any], severity: int) -> tuple[NDArray[np.uint8], Tensor]:
    """Return the images of a severity, on disk, and their labels, of which the file has (5·N,) or just (N,)."""
    array = _map(path)
    count, rest = divmod(len(array), _SEVERITIES) if array.ndim else (0, 0)
    has_channels = array.ndim == 4 and array.shape[3] in (1, 3)
    if array.dtype != np.uint8 or not (array.ndim == 3 or has_channels) or rest or not count:
        raise DataError(
            f"{path} is {array.dtype} of shape {array.shape}; expected uint8 (5·N, H, W, C), five severities of "
            "N images each"
        )
    if labels.dtype.kind not in "iu" or labels.shape not in ((count,), (len(array),)):
        raise DataError(
            f"{path.parent} has labels of type {labels.dtype} and shape {labels.shape} for {len(array)} images of "
            f"{path.stem}; expected one whole number an image"
        )
    rows = slice((severity - 1) * count, severity * count)
    own = labels[rows] if len(labels) == len(array) else labels
    return array[rows], torch.from_numpy(own.astype(np.int64))


def _map(path: Path) -> NDArray[Any]:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as an array ({error}); fetch it again") from error


def load_shifted_folder(
    place: Path, classes: Sequence[str], image_size: tuple[int, int], channels: int, workers: int = 0
) -> Split:
    """Return a folder of CLASS/*.png as a split with the labels, size and channels of another set.

    Raises:
        DataError: The folder is not there, or its classes are not those of the other set.
    """
    height, width = image_size
    if height != width:
        raise DataError(f"image folders can only be read at a square size, and these images are {height}×{width}")
    request = DatasetRequest(f"imagefolder:{place}", image_size=height, channels=channels, workers=workers)
    raw = load_imagefolder(request)
    split = raw.test
    if not isinstance(split, StreamedSplit) or raw.train is not None:
        raise DataError(f"{place} is a set with splits of its own; name the folder of the split that is meant")
    numbers = match_classes(raw.classes, classes, str(place))
    return replace(split, labels=numbers[split.labels], channels=channels, image_size=image_size)


def match_classes(found: Sequence[str], classes: Sequence[str], where: str) -> Tensor:
    """Return the number that each found class has among the classes of another set: by name, else by order.

    Raises:
        DataError: Some names agree and some do not, or none does and there are not as many.

    Warns:
        DataWarning: They are matched by order.
    """
    # A folder's name has no slash: "T-shirt/top" lies in "T-shirt_top".
    places = {name.replace("/", "_"): number for number, name in enumerate(classes)}
    unknown = [name for name in found if name not in places]
    if not unknown:
        return torch.tensor([places[name] for name in found])
    if len(unknown) == len(found) == len(classes):
        warnings.warn(
            f"no class of a folder is called as one of the data set, so both are matched in order: {found[0]!r} is "
            f"taken for {classes[0]!r}, {found[-1]!r} for {classes[-1]!r}",
            DataWarning,
            stacklevel=2,
        )
        return torch.arange(len(found))
    raise DataError(
        f"{where} has {len(found)} classes, among them {unknown[0]!r}, which is none of the {len(classes)} of the test "
        "set. Classes are matched by name, or by order where there are as many and no name agrees; rename that folder"
    )
