"""Corrupted test sets as they are published: arrays like CIFAR-10-C, image folders like ImageNet-C.

Arrays (CIFAR-10-C, CIFAR-100-C, C-bar, and what `robustprune corrupt` writes): ``NAME.npy`` uint8 (5·N, H, W, C), of
which rows (s − 1)·N … s·N are severity s in the order of the test set, and ``labels.npy`` (5·N,). Folders
(Tiny-ImageNet-C, ImageNet-C): ``NAME/SEVERITY/CLASS/*.JPEG``, or the same below a folder for each family.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustprune.data.checksums import PUBLISHED_MD5
from robustprune.data.contract import DatasetRequest
from robustprune.data.image_folders import load_image_folder
from robustprune.data.pixels import convert_channels, resize_images
from robustprune.data.splits import Split
from robustprune.data.streaming import StreamedSplit
from robustprune.errors import DataError, DataWarning
from robustprune.runtime.files import user_path

_SEVERITIES = 5
_ALL = range(1, _SEVERITIES + 1)
_LABELS = "labels"


class ReleasedSet(Protocol):
    """A published corrupted set on disk."""

    @property
    def folder(self) -> Path:
        """Where it lies."""

    @property
    def names(self) -> tuple[str, ...]:
        """The corruptions that are there."""

    @property
    def is_paired(self) -> bool:
        """Whether image i is the test set's image i, corrupted."""

    def part(self, name: str, severity: int) -> ReleasedPart:
        """Return the images of one corruption at one severity."""

    def published(self, name: str) -> bool | None:
        """Return whether a file is the published one, bit for bit; None if nobody knows its checksum."""


class ReleasedPart(Protocol):
    """The images of one corruption at one severity; they are read when they are taken."""

    @property
    def labels(self) -> Tensor:
        """The class of every image, (N,) int64."""

    def take(self, indices: Tensor) -> Tensor:
        """Return the images at ``indices`` (n,), as (n, C, H, W) uint8."""


def open_released(
    folder: str | Path, classes: Sequence[str], *, image_size: tuple[int, int], channels: int, workers: int = 0
) -> ReleasedSet:
    """Open a published corrupted set; nothing of the images is read yet.

    Args:
        folder: Where it lies.
        classes: Of the test set; image folders are matched with them by name.
        image_size: Height and width that images are resized to.
        channels: That they are converted to.
        workers: Processes that read image files.

    Raises:
        DataError: There is no such folder, nothing in it that looks like a corrupted set, or not every severity.
    """
    if not str(folder).strip():
        raise DataError("the folder of the corrupted set has an empty name")
    place = user_path(folder)
    if not place.is_dir():
        raise DataError(f"there is no folder {place} with a corrupted set")
    # Not the hidden ones: what is being written, and the resource forks that macOS packs with a file.
    names = tuple(sorted(path.stem for path in place.glob("[!.]*.npy") if path.stem != _LABELS))
    if names:
        return _ArraySet(place, names, _read_labels(place / f"{_LABELS}.npy"), image_size, channels)
    # Deeper only where there is nothing above: NAME/SEVERITY/CLASS is as deep as FAMILY/NAME/SEVERITY.
    owners = [path.parent for path in sorted(place.glob("[!.]*/1")) or sorted(place.glob("[!.]*/[!.]*/1"))]
    found: dict[str, Path] = {}
    for owner in owners:
        if found.setdefault(owner.name, owner) != owner:
            raise DataError(f"{place} holds {owner.name} twice, in {found[owner.name]} and {owner}; move one of them")
    if not found:
        raise DataError(
            f"{place} holds neither NAME.npy arrays as in CIFAR-10-C nor NAME/SEVERITY/CLASS folders as in ImageNet-C"
        )
    for name, owner in found.items():
        lacking = [str(severity) for severity in _ALL if not (owner / str(severity)).is_dir()]
        if lacking:
            raise DataError(f"{owner} has no folder for severity {' and '.join(lacking)} of {name}; fetch it again")
    return _FolderSet(place, tuple(sorted(found)), found, tuple(classes), image_size, channels, workers)


@dataclass(frozen=True)
class _ArraySet:
    folder: Path
    names: tuple[str, ...]
    labels: NDArray[Any]  # (5·N,) or, where a set has no more, (N,)
    image_size: tuple[int, int]
    channels: int
    is_paired: bool = True

    def part(self, name: str, severity: int) -> ReleasedPart:
        path = self.folder / f"{name}.npy"
        array = _map(path)
        count, rest = divmod(len(array), _SEVERITIES) if array.ndim else (0, 0)
        is_grey = array.ndim == 3
        has_channels = array.ndim == 4 and array.shape[3] in (1, 3)
        if array.dtype != np.uint8 or not (is_grey or has_channels) or rest or not count:
            raise DataError(
                f"{path} is {array.dtype} of shape {array.shape}; expected uint8 (5·N, H, W, C), five severities of "
                "N images each"
            )
        if len(self.labels) not in (count, len(array)):
            raise DataError(f"{self.folder} has {len(self.labels)} labels for {len(array)} images of {name}")
        rows = slice((severity - 1) * count, severity * count)
        labels = self.labels[rows] if len(self.labels) == len(array) else self.labels
        return _ArrayPart(array[rows], torch.from_numpy(labels.astype(np.int64)), self.image_size, self.channels)

    def published(self, name: str) -> bool | None:
        known = {sums[name] for sums in PUBLISHED_MD5.values() if name in sums}
        if not known:
            return None
        with (self.folder / f"{name}.npy").open("rb") as stream:
            return hashlib.file_digest(stream, "md5").hexdigest() in known


@dataclass(frozen=True)
class _ArrayPart:
    array: NDArray[np.uint8]  # (N, H, W[, C]), on disk
    labels: Tensor
    image_size: tuple[int, int]
    channels: int

    def take(self, indices: Tensor) -> Tensor:
        images = self.array[indices.numpy()]
        images = images[..., None] if images.ndim == 3 else images
        pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        return resize_images(convert_channels(pixels, self.channels), self.image_size)


@dataclass(frozen=True)
class _FolderSet:
    folder: Path
    names: tuple[str, ...]
    folders: dict[str, Path]
    classes: tuple[str, ...]
    image_size: tuple[int, int]
    channels: int
    workers: int
    is_paired: bool = False

    def part(self, name: str, severity: int) -> ReleasedPart:
        place = self.folders[name] / str(severity)
        return load_foreign_folder(place, self.classes, self.image_size, self.channels, self.workers)

    def published(self, name: str) -> bool | None:
        return None


def load_foreign_folder(
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
    raw = load_image_folder(request)
    split = raw.test
    if not isinstance(split, StreamedSplit) or raw.train is not None:
        raise DataError(
            f"{place} is a set with splits of its own, and a folder of CLASS/*.png is wanted; name the folder of the "
            "split that is meant"
        )
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
        # Without the place, which is another for each of many folders of one set.
        warnings.warn(
            f"no class of a folder is called as one of the data set, so both are matched in order: {found[0]!r} is "
            f"taken for {classes[0]!r}, {found[-1]!r} for {classes[-1]!r}",
            DataWarning,
            stacklevel=2,
        )
        return torch.arange(len(found))
    raise DataError(
        f"{where} has {len(found)} classes, among them {unknown[0]!r}, which is none of the {len(classes)} of the test "
        f"set ({', '.join(classes[:3])}, …). Classes are matched by name, or by order where there are as many and no "
        "name agrees; rename the folder of that class"
    )


def _map(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as an array ({error}); fetch it again") from error
    return array


def _read_labels(path: Path) -> NDArray[Any]:
    if not path.is_file():
        raise DataError(f"there are corrupted images in {path.parent}, but no {path.name} with their labels")
    labels = np.array(_map(path))
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{path} is {labels.dtype} of shape {labels.shape}; expected one whole number per image")
    return labels
