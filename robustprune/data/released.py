"""Corrupted test sets as they are published: arrays like CIFAR-10-C, image folders like ImageNet-C.

Arrays (CIFAR-10-C, CIFAR-100-C, C-bar, and what `robustprune corrupt` writes): ``NAME.npy`` uint8 (5·N, H, W, C), of
which rows (s − 1)·N … s·N are severity s in the order of the test set, and ``labels.npy`` (5·N,). Folders
(Tiny-ImageNet-C, ImageNet-C): ``NAME/SEVERITY/CLASS/*.JPEG``, or the same below a folder for each family.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
# MD5 sums of the files of Zenodo records 2535967 and 3555552, on which three independent loaders of the sets agree.
PUBLISHED_MD5: dict[str, dict[str, str]] = {
    "CIFAR-10-C": {
        "brightness": "0a81ef75e0b523c3383219c330a85d48",
        "contrast": "3c8262171c51307f916c30a3308235a8",
        "defocus_blur": "7d1322666342a0702b1957e92f6254bc",
        "elastic_transform": "9421657c6cd452429cf6ce96cc412b5f",
        "fog": "7b397314b5670f825465fbcd1f6e9ccd",
        "frost": "31f6ab3bce1d9934abfb0cc13656f141",
        "gaussian_blur": "c33370155bc9b055fb4a89113d3c559d",
        "gaussian_noise": "ecaf8b9a2399ffeda7680934c33405fd",
        "glass_blur": "7361fb4019269e02dbf6925f083e8629",
        "impulse_noise": "2090e01c83519ec51427e65116af6b1a",
        "jpeg_compression": "2b9cc4c864e0193bb64db8d7728f8187",
        "labels": "c439b113295ed5254878798ffe28fd54",
        "motion_blur": "fffa5f852ff7ad299cfe8a7643f090f4",
        "pixelate": "0f14f7e2db14288304e1de10df16832f",
        "saturate": "1cfae0964219c5102abbb883e538cc56",
        "shot_noise": "3a7239bb118894f013d9bf1984be7f11",
        "snow": "bb238de8555123da9c282dea23bd6e55",
        "spatter": "8a5a3903a7f8f65b59501a6093b4311e",
        "speckle_noise": "ef00b87611792b00df09c0b0237a1e30",
        "zoom_blur": "6ea8e63f1c5cdee1517533840641641b",
    },
    "CIFAR-100-C": {
        "brightness": "f22d7195aecd6abb541e27fca230c171",
        "contrast": "322bb385f1d05154ee197ca16535f71e",
        "defocus_blur": "d923e3d9c585a27f0956e2f2ad832564",
        "elastic_transform": "a0792bd6581f6810878be71acedfc65a",
        "fog": "4efc7ebd5e82b028bdbe13048e3ea564",
        "frost": "3a39c6823bdfaa0bf8b12fe7004b8117",
        "gaussian_blur": "5204ba0d557839772ef5a4196a052c3e",
        "gaussian_noise": "ecc4d366eac432bdf25c024086f5e97d",
        "glass_blur": "0bf384f38e5ccbf8dd479d9059b913e1",
        "impulse_noise": "3b3c210ddfa0b5cb918ff4537a429fef",
        "jpeg_compression": "c851b7f1324e1d2ffddeb76920576d11",
        "labels": "bb4026e9ce52996b95f439544568cdb2",
        "motion_blur": "732a7e2e54152ff97c742d4c388c5516",
        "pixelate": "96c00c60f144539e14cffb02ddbd0640",
        "saturate": "c0697e9fdd646916a61e9c312c77bf6b",
        "shot_noise": "b0a1fa6e1e465a747c1b204b1914048a",
        "snow": "0237be164583af146b7b144e73b43465",
        "spatter": "12ccf41d62564d36e1f6a6ada5022728",
        "speckle_noise": "e3f215b1a0f9fd9fd6f0d1cf94a7ce99",
        "zoom_blur": "0204613400c034a81c4830d5df81cb82",
    },
}


class ReleasedPart(Protocol):
    """The images of one corruption at one severity; they are read when they are taken."""

    @property
    def labels(self) -> Tensor:
        """The class of every image, (N,) int64."""

    def take(self, indices: Tensor) -> Tensor:
        """Return the images at ``indices`` (n,), as (n, C, H, W) uint8."""


@dataclass(frozen=True)
class ReleasedSet:
    """A published corrupted set on disk."""

    folder: Path
    names: tuple[str, ...]  # the corruptions that are there
    is_paired: bool  # whether image i is the test set's image i, corrupted
    part: Callable[[str, int], ReleasedPart]  # the images of a corruption at a severity

    def published(self, name: str) -> bool | None:
        """Return whether a file is the published one, bit for bit; None if nobody knows its checksum."""
        known = {sums[name] for sums in PUBLISHED_MD5.values() if name in sums}
        if not self.is_paired or not known:
            return None
        with (self.folder / f"{name}.npy").open("rb") as stream:
            return hashlib.file_digest(stream, "md5").hexdigest() in known


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
        labels = _read_labels(place / f"{_LABELS}.npy")

        def part(name: str, severity: int) -> ReleasedPart:
            array, own = _rows(place / f"{name}.npy", labels, severity)
            return _ArrayPart(array, own, image_size, channels)

        return ReleasedSet(place, names, True, part)
    owners = _find_folders(place)

    def split(name: str, severity: int) -> ReleasedPart:
        return load_foreign_folder(owners[name] / str(severity), classes, image_size, channels, workers)

    return ReleasedSet(place, tuple(sorted(owners)), False, split)


def _find_folders(place: Path) -> dict[str, Path]:
    """Return the folder of each corruption, which holds one for each severity."""
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
    return found


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
    if len(labels) not in (count, len(array)):
        raise DataError(f"{path.parent} has {len(labels)} labels for {len(array)} images of {path.stem}")
    rows = slice((severity - 1) * count, severity * count)
    own = labels[rows] if len(labels) == len(array) else labels
    return array[rows], torch.from_numpy(own.astype(np.int64))


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
