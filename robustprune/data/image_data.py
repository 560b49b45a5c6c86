"""An image set ready for use: its splits, its statistics, how to get exactly it again, and samples of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from robustprune.data.splits import InMemorySplit, Split
from robustprune.data.stratify import stratified_indices
from robustprune.errors import DataError

_WITHOUT = {
    "train": "it can only be tested on or serve as out-of-distribution data; train on another set",
    "val": "a validation fraction above 0 takes one out of training images",
    "test": "add a test split to it",
}


@dataclass(frozen=True, eq=False, repr=False)
class ImageData:
    """What `load_data` returns. Images are uint8 (N, C, H, W), labels int64 (N,)."""

    name: str  # as given to load_data
    classes: tuple[str, ...]
    mean: tuple[float, ...]  # by channel, in units of [0, 1], of the training images (else the test images)
    std: tuple[float, ...]  # likewise; never below 0.001
    flips: bool  # whether a mirrored image keeps its label, so that training may flip
    train: Split | None = None
    val: Split | None = None
    test: Split | None = None
    spec: dict[str, Any] = field(default_factory=dict)  # load_data(**spec) gives the same data again
    provenance: dict[str, Any] = field(default_factory=dict)  # JSON-able: origin, sizes, conversions, hashes

    def __post_init__(self) -> None:
        """Check that there is a split at all."""
        if not self.splits():
            raise DataError(f"data set {self.name!r} has no split")

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    @property
    def channels(self) -> int:
        """One for grey images, three for colour."""
        return next(iter(self.splits().values())).shape[0]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        _, height, width = next(iter(self.splits().values())).shape
        return height, width

    @property
    def identity(self) -> dict[str, Any]:
        """What makes the set what it is, its images' hashes among it: the provenance less where its files lie."""
        return {name: value for name, value in self.provenance.items() if name not in ("root", "source")}

    def splits(self) -> dict[str, Split]:
        """Return the splits the set has, by name."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    def to(self, device: torch.device | str) -> ImageData:
        """Return the set with the splits that are held in memory on ``device``; files stay where they are."""
        moved: dict[str, Any] = {
            name: split.to(device) if isinstance(split, InMemorySplit) else split
            for name, split in self.splits().items()
        }
        return replace(self, **moved)

    def require(self, split_name: str) -> Split:
        """Return the split called ``train``, ``val`` or ``test``.

        Raises:
            DataError: The set has no such split; the message says which it has and why.
        """
        found = self.splits()
        if split_name in found:
            return found[split_name]
        if split_name not in _WITHOUT:
            raise DataError(f"there is no split called {split_name!r}; splits are {', '.join(_WITHOUT)}")
        names = ", ".join(found)
        raise DataError(f"data set {self.name!r} has no {split_name} split, only {names}: {_WITHOUT[split_name]}")

    def __repr__(self) -> str:
        """Return name, shape and sizes rather than every field."""
        sizes = ", ".join(f"{name} {len(split)}" for name, split in self.splits().items())
        shape = "x".join(str(side) for side in (self.channels, *self.image_size))
        return f"ImageData({self.name!r}, {shape}, {self.num_classes} classes, {sizes})"


class Sample(NamedTuple):
    """Images of a split, and which they are."""

    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64, on the CPU
    indices: Tensor  # (N,) places in the split


def take_sample(data: ImageData, split: str, limit: int | None, seed: int) -> Sample:
    """Return a split's images, or a stratified sample of ``limit`` of them.

    Raises:
        DataError: No such split, or a limit that it does not have.
    """
    part = data.require(split)
    indices = torch.arange(len(part)) if limit is None else stratified_indices(part.labels, limit, seed)
    return Sample(part.take(indices), part.labels[indices].cpu(), indices)


def images_at(images: Tensor, places: Tensor) -> Tensor:
    """Return the images at some places (n,) in rising order: of all of them no copy."""
    return images if len(places) == len(images) else images[places.to(images.device)]
