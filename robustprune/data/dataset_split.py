"""A map-style Dataset too large for memory, as a split whose images are asked for as they are used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from robustprune.data.given_forms import unpack
from robustprune.data.given_images import ImageReader, Undo
from robustprune.data.pixels import convert_channels
from robustprune.data.splits import Batch
from robustprune.errors import DataError, RobustPruneError, in_one_line
from robustprune.runtime.randomness import isolated_generators

_READ_SIZE = 256


@dataclass(frozen=True, eq=False, repr=False)
class DatasetSplit:
    """Images of a Dataset, read in this process and checked as they were when the split was made."""

    dataset: Any  # its items are (image, label) or mappings
    places: Tensor  # (N,) int64, which of its items these are
    shape: tuple[int, int, int]  # channels, height, width
    labels: Tensor  # (N,) int64
    undo: Undo | None = None
    sha256: str | None = None  # of the content, where it is known

    @property
    def images(self) -> Tensor:
        """All images at once, (N, C, H, W) uint8."""
        return self.take(torch.arange(len(self)))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.places)

    def __repr__(self) -> str:
        """Return the size of the split rather than its items."""
        return f"DatasetSplit({len(self)} images of {self.shape} in a {type(self.dataset).__name__})"

    def take(self, indices: Tensor) -> Tensor:
        """Return the images at ``indices`` (n,), in that order, as (n, C, H, W) uint8.

        Raises:
            DataError: The Dataset fails, or gives other images than it did.
        """
        if not len(indices):
            return torch.empty((0, *self.shape), dtype=torch.uint8)
        what = type(self.dataset).__name__
        reader = ImageReader(what, self.undo)
        with isolated_generators():
            for place in self.places[indices.cpu()].tolist():
                try:
                    item = self.dataset[place]
                except (RobustPruneError, Warning, MemoryError):
                    raise
                except Exception as error:  # of the user's code
                    raise DataError(
                        f"{what}: reading item {place} failed with {type(error).__name__}: {in_one_line(error)}"
                    ) from error
                reader.add(unpack(item, what)[0], is_batch=False)
        return fitted(reader.take(), self.shape, what)

    def batches(
        self, batch_size: int, *, order: Tensor | None = None, device: torch.device | str = "cpu"
    ) -> Iterator[Batch]:
        """Yield the images at ``order`` (all of them, in their own order, by default), on ``device``."""
        positions = torch.arange(len(self)) if order is None else order.cpu()
        for indices in torch.split(positions, batch_size):
            yield Batch(self.take(indices).to(device), self.labels[indices].to(device), indices.to(device))

    def subset(self, indices: Tensor) -> DatasetSplit:
        """Return a split of the images at ``indices`` (n,), in that order."""
        chosen = indices.cpu()
        return replace(self, places=self.places[chosen], labels=self.labels[chosen], sha256=None)

    def fingerprint(self) -> str:
        """Return the SHA-256 over pixels and labels, that of the same images in memory; it may take a whole pass."""
        if self.sha256 is not None:
            return self.sha256
        digest = PixelDigest(len(self), self.shape)
        for batch in self.batches(_READ_SIZE):
            digest.add(batch.images)
        return digest.with_labels(self.labels)


class DatasetReader:
    """Goes through a Dataset that is too large to keep, once: what is left is its fingerprint."""

    def __init__(self, dataset: Any, images: ImageReader) -> None:
        """Begin at the first image, which the reader holds; from then on it holds few."""
        self.dataset, self.images = dataset, images
        first = images.take()
        channels, height, width = first.shape[1:]
        self.shape = (channels, height, width)
        self._digest = PixelDigest(len(dataset), self.shape)
        self._digest.add(first)
        self._waiting = 0

    def go_on(self) -> None:
        """Look at what the reader has taken, some hundred images at a time."""
        self._waiting += 1
        if self._waiting >= _READ_SIZE:
            self._flush()

    def split(self, labels: Tensor) -> DatasetSplit:
        """Return the split of all images, labels (N,) int64."""
        self._flush()
        places = torch.arange(len(labels))
        return DatasetSplit(
            self.dataset, places, self.shape, labels, self.images.undo, self._digest.with_labels(labels)
        )

    def _flush(self) -> None:
        self._waiting = 0
        if self.images.held:
            self._digest.add(fitted(self.images.take(), self.shape, self.images.what))


class PixelDigest:
    """The fingerprint of a split in memory, as :func:`robustprune.runtime.files.hash_arrays` has it, in parts."""

    def __init__(self, count: int, shape: tuple[int, int, int]) -> None:
        """Begin with none of ``count`` images."""
        self._digest = hashlib.sha256(f"images||u1|{(count, *shape)}|".encode())

    def add(self, images: Tensor) -> None:
        """Go on with the next images (n, C, H, W) uint8."""
        self._digest.update(images.contiguous().numpy().tobytes())

    def with_labels(self, labels: Tensor) -> str:
        """Return the fingerprint of all images with their labels (N,) int64."""
        array = labels.numpy()
        whole = self._digest.copy()
        whole.update(f"labels|{array.dtype.str}|{array.shape}|".encode())
        whole.update(array.tobytes())
        return whole.hexdigest()


def fitted(images: Tensor, shape: tuple[int, int, int], what: str) -> Tensor:
    """Return images with the channels of a split, once it is certain that they are of its size."""
    if images.shape[2:] != shape[1:] or images.shape[1] > shape[0]:
        found = "×".join(map(str, images.shape[1:]))
        raise DataError(
            f"{what}: an image is {found} where others are {'×'.join(map(str, shape))}; bring them to one size and to "
            "colour, as in the Dataset's transform"
        )
    return convert_channels(images, shape[0])
