"""Where corrupted images come from: made here from the test images, or read from a published set."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from robustprune.corruptions import HEADLINE, corrupt, expand_names, geometry_scale, share_corruption_options
from robustprune.corruptions.requests import Corruptions
from robustprune.data import ImageData, Sample, stratified_indices
from robustprune.data.released import ReleasedSet, open_released
from robustprune.errors import CorruptionError, EvaluationError
from robustprune.registry import split_options


@dataclass(frozen=True)
class CorruptedImages:
    """Corrupted images of a test set, or of the sample of it that is evaluated.

    Attributes:
        source: What they are called in a record.
        originals: The evaluated images (n, C, H, W) uint8, without corruption.
        labels: Returns the labels (m,) of a corruption at a severity.
        make: Returns images of a corruption at a severity, those at some places (k,), as (k, C, H, W) uint8.
        is_paired: Whether image i is the evaluated image i, corrupted.
        missing: The corruptions that were asked for and are not there.
        scale: What lengths in pixels were multiplied by; None where nobody says.
        published: Returns for each corruption whether its file is the published one.
    """

    source: str
    names: tuple[str, ...]
    originals: Tensor
    labels: Callable[[str, int], Tensor]
    make: Callable[[str, int, Tensor], Tensor]
    is_paired: bool = True
    missing: tuple[str, ...] = ()
    scale: float | None = None
    published: Callable[[], dict[str, bool | None]] = dict


def find_corrupted(
    asked: Corruptions, data: ImageData, sample: Sample, seed: int, limit: int | None
) -> CorruptedImages | None:
    """Return corrupted images: from a published set where a folder of one is given, else made here.

    None where nothing is asked for. ``limit`` is of sets whose images cannot be matched with the sample's.

    Raises:
        CorruptionError: Options that none of the corruptions takes, or whose values do not do.
        DataError: There is no such set, or an array in it is damaged.
        EvaluationError: None of the corruptions is in it, or its labels are not those of the test set.
    """
    given = ", ".join(map(repr, [*asked.options, *(key for name in asked.names for key in split_options(name)[1])]))
    if asked.published is not None:
        if given:
            raise CorruptionError(f"the options {given} are for making corrupted images, not for reading them")
        released = open_released(asked.published, data.classes, image_size=data.image_size, channels=data.channels)
        return _read(released, asked.names or ("all",), sample, seed, limit)
    if not asked.names:
        if given:
            raise CorruptionError(f"no corruption is named that could take {given}")
        return None
    options = share_corruption_options(asked, sample.images)

    def make(name: str, severity: int, places: Tensor) -> Tensor:
        # Keyed by seed and by each image's place in its split.
        images, ids = sample.images[places.to(sample.images.device)], sample.indices[places]
        return corrupt(images, name, severity, seed=seed, sample_ids=ids, **options[name])

    return CorruptedImages(
        source=f"{data.name}-c-like",
        names=tuple(options),
        originals=sample.images,
        labels=lambda _name, _severity: sample.labels,
        make=make,
        scale=geometry_scale(*data.image_size),
    )


def _read(released: ReleasedSet, asked: Sequence[str], sample: Sample, seed: int, limit: int | None) -> CorruptedImages:
    names, missing = _among(asked, released)
    part = lru_cache(maxsize=1)(released.part)  # listing the files of a folder takes a while

    def places_of(name: str, severity: int) -> Tensor:
        if released.is_paired:
            return sample.indices
        labels = part(name, severity).labels
        return torch.arange(len(labels)) if limit is None else stratified_indices(labels, limit, seed)

    def labels_of(name: str, severity: int) -> Tensor:
        labels, own = part(name, severity).labels, sample.indices
        matches = int(own.max()) < len(labels) and torch.equal(labels[own], sample.labels)
        if released.is_paired and not matches:
            raise EvaluationError(
                f"{released.folder} was not made from these test images: its labels are others; give the data set it "
                "was made from, at its full test split"
            )
        return labels[places_of(name, severity)]

    def make(name: str, severity: int, places: Tensor) -> Tensor:
        return part(name, severity).take(places_of(name, severity)[places])

    # What is wrong with a set should not come out after an hour; arrays are cheap to open, folders to list are not.
    for name in names if released.is_paired else names[:1]:
        labels_of(name, 1)
    return CorruptedImages(
        str(released.folder),
        names,
        sample.images,
        labels_of,
        make,
        is_paired=released.is_paired,
        missing=missing,
        published=lambda: {name: released.published(name) for name in names},
    )


def _among(names: Sequence[str], released: ReleasedSet) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which of the corruptions asked for are in a set, and which are not.

    ``all`` is the fifteen, or whatever is there in a set of others (C-bar).
    """
    if "all" in names and not set(HEADLINE) & set(released.names):
        names = [each for name in names for each in (released.names if name == "all" else (name,))]
    there = [name for name in names if name in released.names]
    spelled = list(dict.fromkeys([*there, *expand_names([name for name in names if name not in released.names])]))
    found = tuple(name for name in spelled if name in released.names)
    missing = tuple(name for name in spelled if name not in released.names)
    if not found:
        raise EvaluationError(f"{released.folder} has none of {', '.join(missing)}; it has {', '.join(released.names)}")
    return found, missing


class Idle:
    """Severities at which corruptions left every image as it was, or made the images of a lower one once more.

    So do some at some sizes, or of images that are grey or without a pattern. A network withstands them by doing
    nothing, so they must not count as withstood. Where image i of a corruption is not made of image i, one is idle
    whose images are all among those without it.
    """

    def __init__(self, images: CorruptedImages) -> None:
        """Look at the images without corruption."""
        self.unchanged: dict[str, list[int]] = {}
        self.repeated: dict[str, list[int]] = {}
        self._own, self._is_paired = fingerprints(images.originals), images.is_paired
        self._seen: dict[str, list[Tensor]] = {}

    def look(self, name: str, severity: int, prints: Tensor) -> None:
        """Look at the fingerprints (m,) of the images of a corruption at a severity, in rising order."""
        lower = self._seen.setdefault(name, [])
        if torch.equal(prints, self._own) if self._is_paired else bool(torch.isin(prints, self._own).all()):
            self.unchanged.setdefault(name, []).append(severity)
        elif any(torch.equal(prints, each) for each in lower):
            self.repeated.setdefault(name, []).append(severity)
        lower.append(prints)


def fingerprints(images: Tensor) -> Tensor:
    """Return a checksum (n,) of each of the images (n, …)."""
    return torch.tensor([zlib.crc32(image) for image in images.cpu().contiguous().numpy()], dtype=torch.int64)
