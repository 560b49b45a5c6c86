"""Where corrupted images come from: made here from the test images, or read from a published set."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from robustprune.corruptions import HEADLINE, corrupt, expand_names, geometry_scale, share_corruption_options
from robustprune.corruptions.requests import Corruptions
from robustprune.data import ImageData, Sample, stratified_indices
from robustprune.data.released import ReleasedPart, ReleasedSet, open_released
from robustprune.errors import CorruptionError, EvaluationError


class CorruptedImages(Protocol):
    """Corrupted images of a test set, or of the sample of it that is evaluated."""

    @property
    def source(self) -> str:
        """What they are called in a record."""

    @property
    def names(self) -> tuple[str, ...]:
        """The corruptions there are."""

    @property
    def missing(self) -> tuple[str, ...]:
        """The corruptions that were asked for and are not there."""

    @property
    def is_paired(self) -> bool:
        """Whether image i is the evaluated image i, corrupted."""

    @property
    def scale(self) -> float | None:
        """What lengths in pixels were multiplied by; None where nobody says."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image."""

    @property
    def originals(self) -> Tensor:
        """The evaluated images (n, C, H, W) uint8, without corruption."""

    @property
    def count(self) -> int:
        """How many images there are of the first corruption at severity 1."""

    def labels(self, name: str, severity: int) -> Tensor:
        """Return the labels (n,) of one corruption at one severity."""

    def make(self, name: str, severity: int, part: Tensor) -> Tensor:
        """Return its images at some places, (m, C, H, W) uint8."""

    @property
    def published(self) -> dict[str, bool | None]:
        """For each corruption whether its file is the published one."""


def find_corrupted(
    asked: Corruptions, data: ImageData, sample: Sample, seed: int, limit: int | None
) -> CorruptedImages | None:
    """Return corrupted images: from a published set where a folder of one is given, else made here.

    Args:
        asked: What is asked for; where nothing is, None is returned.
        data: The image set.
        sample: The images of it that are evaluated.
        seed: Of the corruptions.
        limit: How many images of a set are wanted whose images cannot be matched with the sample's.

    Raises:
        CorruptionError: Options that none of the corruptions takes, or whose values do not do.
        DataError: There is no such set, or an array in it is damaged.
        EvaluationError: None of the corruptions is in it, or its labels are not those of the test set.
    """
    options = asked.options
    if not asked.names and asked.published is None:
        if options:
            raise CorruptionError(f"no corruption is named that could take {', '.join(map(repr, options))}")
        return None
    if asked.published is None:
        return _Made(expand_names(asked.names), data, sample, seed, options)
    if options:
        raise CorruptionError(f"the options {', '.join(options)} are for making corrupted images, not for reading them")
    released = open_released(asked.published, data.classes, image_size=data.image_size, channels=data.channels)
    return _Read(released, asked.names or ("all",), sample, seed, limit)


class _Made:
    """Corrupted here, keyed by seed and by each image's place in its split."""

    is_paired = True
    missing: tuple[str, ...] = ()

    def __init__(
        self,
        names: Sequence[str],
        data: ImageData,
        sample: Sample,
        seed: int,
        options: Mapping[str, Any],
    ) -> None:
        self.source = f"{data.name}-c-like"
        self.names = tuple(names)
        self.shape = data.channels, *data.image_size
        self.scale = geometry_scale(*data.image_size)
        self.originals = sample.images
        self._sample, self._seed = sample, seed
        self._options = share_corruption_options(names, options, sample.images)

    @property
    def count(self) -> int:
        return len(self._sample.labels)

    def labels(self, name: str, severity: int) -> Tensor:
        return self._sample.labels

    def make(self, name: str, severity: int, part: Tensor) -> Tensor:
        chosen = self._sample.images[part.to(self._sample.images.device)]
        ids = self._sample.indices[part]
        return corrupt(chosen, name, severity, seed=self._seed, sample_ids=ids, **self._options[name])

    @property
    def published(self) -> dict[str, bool | None]:
        return {}


class _Read:
    """Read from a published set."""

    scale = None

    def __init__(
        self,
        released: ReleasedSet,
        names: Sequence[str],
        sample: Sample,
        seed: int,
        limit: int | None,
    ) -> None:
        self.source, self.is_paired = str(released.folder), released.is_paired
        self.names, self.missing = _among(names, released)
        self.shape = (int(sample.images.shape[1]), int(sample.images.shape[2]), int(sample.images.shape[3]))
        self.originals = sample.images
        self._released, self._test_labels, self._indices = released, sample.labels, sample.indices
        self._seed, self._limit = seed, limit
        self._last: tuple[str, int, ReleasedPart] | None = None
        # What is wrong with a set should not come out after an hour; arrays are cheap to open, folders to list are not.
        for name in self.names if self.is_paired else self.names[:1]:
            self.labels(name, 1)

    @property
    def count(self) -> int:
        return len(self._places(self.names[0], 1))

    def labels(self, name: str, severity: int) -> Tensor:
        labels = self._part(name, severity).labels
        if self.is_paired and not self._agree(labels):
            raise EvaluationError(
                f"{self.source} was not made from these test images: its labels are others; give the data set it was "
                "made from, at its full test split"
            )
        return labels[self._places(name, severity)]

    def make(self, name: str, severity: int, part: Tensor) -> Tensor:
        return self._part(name, severity).take(self._places(name, severity)[part])

    # The whole of each file is read for it: once, for all networks that are shown the set.
    @cached_property
    def published(self) -> dict[str, bool | None]:
        return {name: self._released.published(name) for name in self.names}

    def _part(self, name: str, severity: int) -> ReleasedPart:
        # Kept until the next one: listing the files of a folder takes a while.
        if self._last is None or self._last[:2] != (name, severity):
            self._last = (name, severity, self._released.part(name, severity))
        return self._last[2]

    def _agree(self, labels: Tensor) -> bool:
        inside = int(self._indices.max()) < len(labels)
        return inside and torch.equal(labels[self._indices], self._test_labels)

    def _places(self, name: str, severity: int) -> Tensor:
        if self.is_paired:
            return self._indices
        labels = self._part(name, severity).labels
        return torch.arange(len(labels)) if self._limit is None else stratified_indices(labels, self._limit, self._seed)


def _among(names: Sequence[str], released: ReleasedSet) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which of the corruptions asked for are in a set, and which are not.

    ``all`` is the fifteen, or whatever is there in a set of others (C-bar).
    """
    listed = list(names)
    if "all" in listed and not set(HEADLINE) & set(released.names):
        listed = [each for name in listed for each in (released.names if name == "all" else (name,))]
    there = [name for name in listed if name in released.names]
    spelled = list(dict.fromkeys([*there, *expand_names([name for name in listed if name not in released.names])]))
    found = tuple(name for name in spelled if name in released.names)
    missing = tuple(name for name in spelled if name not in released.names)
    if not found:
        raise EvaluationError(f"{released.folder} has none of {', '.join(missing)}; it has {', '.join(released.names)}")
    return found, missing


class Idle:
    """Which corruptions left every image as it was, or made the images of a lower severity once more.

    So do some at some sizes, or of images that are grey or without a pattern. A network withstands them by doing
    nothing, so they must not count as withstood.

    Attributes:
        unchanged: Corruption → severities at which it left every image as it was.
        repeated: Corruption → severities at which its images are those of a lower severity.
    """

    def __init__(self, originals: Tensor, is_paired: bool) -> None:
        """Take the images (n, C, H, W) without corruption, and whether image i of a corruption is made of image i.

        If not, a corruption is idle whose images are all among these.
        """
        self.unchanged: dict[str, list[int]] = {}
        self.repeated: dict[str, list[int]] = {}
        self._own, self._is_paired = fingerprints(originals), is_paired
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
