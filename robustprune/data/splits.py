"""What every part of an image set can do, and the kind that is held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from robustprune.errors import DataError
from robustprune.runtime.files import hash_arrays


class Batch(NamedTuple):
    """Some images of a split and where in the split they are."""

    images: Tensor  # (n, C, H, W) uint8
    labels: Tensor  # (n,) int64
    indices: Tensor  # (n,) int64


@runtime_checkable
class Split(Protocol):
    """A part of an image set (training, validation or test): labelled uint8 images of one size."""

    @property
    def labels(self) -> Tensor:
        """The class of every image, (N,) int64."""

    @property
    def images(self) -> Tensor:
        """All images at once, (N, C, H, W) uint8; a streamed split reads every file for it."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image: channels, height, width."""

    def __len__(self) -> int:
        """Return the number of images."""

    def take(self, indices: Tensor) -> Tensor:
        """Return the images at ``indices`` (n,), in that order, as (n, C, H, W) uint8."""

    def batches(
        self, batch_size: int, *, order: Tensor | None = None, device: torch.device | str = "cpu"
    ) -> Iterator[Batch]:
        """Yield the images at ``order`` (all of them, in their own order, by default), on ``device``.

        The last batch is shorter when ``batch_size`` does not divide the number of images.
        """

    def subset(self, indices: Tensor) -> Split:
        """Return a split of the images at ``indices`` (n,), in that order."""

    def fingerprint(self) -> str:
        """Return a SHA-256 of the content, as 64 hexadecimal digits."""


@dataclass(frozen=True, eq=False, repr=False)
class InMemorySplit:
    """Images and labels as two tensors.

    Raises:
        DataError: The tensors are not uint8 (N, C, H, W) with one or three channels and int64 (N,).
    """

    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64

    def __post_init__(self) -> None:
        """Check types and shapes."""
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or self.images.shape[1] not in (1, 3):
            raise DataError(
                f"images must be uint8 of shape (N, C, H, W) with C of 1 or 3; found {_described(self.images)}"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise DataError(
                f"labels must be int64 of shape ({len(self.images)},), one an image; found {_described(self.labels)}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image: channels, height, width."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __repr__(self) -> str:
        """Return the size of the split rather than its pixels."""
        return f"InMemorySplit({len(self)} images of {self.shape})"

    def take(self, indices: Tensor) -> Tensor:
        """Return the images at ``indices`` (n,), in that order, as (n, C, H, W) uint8."""
        return self.images[indices.to(self.images.device)]

    def batches(
        self, batch_size: int, *, order: Tensor | None = None, device: torch.device | str = "cpu"
    ) -> Iterator[Batch]:
        """Yield the images at ``order`` (all of them, in their own order, by default), on ``device``.

        Without an order the batches are views of the tensors held here: do not write into them.
        """
        home = self.images.device
        positions = torch.arange(len(self), device=home) if order is None else order.to(home)
        for start in range(0, len(positions), batch_size):
            indices = positions[start : start + batch_size]
            chosen = indices if order is not None else slice(start, start + batch_size)
            yield Batch(self.images[chosen].to(device), self.labels[chosen].to(device), indices.to(device))

    def subset(self, indices: Tensor) -> InMemorySplit:
        """Return a split of the images at ``indices`` (n,), in that order."""
        return InMemorySplit(self.take(indices), self.labels[indices.to(self.labels.device)])

    def to(self, device: torch.device | str) -> InMemorySplit:
        """Return the split with both tensors on ``device``; the same split when they are there already."""
        images, labels = self.images.to(device), self.labels.to(device)
        return self if images is self.images and labels is self.labels else InMemorySplit(images, labels)

    def fingerprint(self) -> str:
        """Return the SHA-256 over pixels and labels, as 64 hexadecimal digits."""
        return hash_arrays({"images": self.images.cpu().numpy(), "labels": self.labels.cpu().numpy()})


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
