"""Given images that are too large for memory, as a split that asks for them as they are used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from robustprune.data.chunks import read_batches, read_images_at
from robustprune.data.given_images import ImageReader, Undo
from robustprune.data.given_source import GivenSource
from robustprune.data.pixels import convert_channels
from robustprune.data.splits import Batch
from robustprune.errors import DataError

_READ_SIZE = 256


@dataclass(frozen=True, eq=False, repr=False)
class DatasetSplit:
    """Images of a Dataset, a loader or an array, checked at each reading as they were when the split was made."""

    source: GivenSource
    places: Sequence[Any]  # of N, which of its images these are
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
        return f"DatasetSplit({len(self)} images of {self.shape} in a {self.source.name})"

    def take(self, indices: Tensor) -> Tensor:
        """Return the images at ``indices`` (n,), in that order, as (n, C, H, W) uint8.

        Raises:
            DataError: Reading fails, or gives other images than it did.
        """
        return read_images_at(self._load, indices, self.shape, self.source.workers)

    def batches(
        self, batch_size: int, *, order: Tensor | None = None, device: torch.device | str = "cpu"
    ) -> Iterator[Batch]:
        """Yield the images at ``order`` (all of them, in their own order, by default), on ``device``.

        Raises:
            DataError: As `take`.
        """
        positions = torch.arange(len(self)) if order is None else order.cpu()
        chunks = torch.split(positions, batch_size)
        yield from read_batches(self._load, self.labels, chunks, self.source.workers, device)

    def subset(self, indices: Tensor) -> DatasetSplit:
        """Return a split of the images at ``indices`` (n,), in that order."""
        chosen = indices.cpu()
        places = [self.places[index] for index in chosen.tolist()]
        return replace(self, places=places, labels=self.labels[chosen], sha256=None)

    def fingerprint(self) -> str:
        """Return the SHA-256 over pixels and labels, that of the same images in memory; it may take a whole pass."""
        if self.sha256 is not None:
            return self.sha256
        digest = PixelDigest(len(self), self.shape)
        for batch in self.batches(_READ_SIZE):
            digest.add(batch.images)
        return digest.with_labels(self.labels)

    def _load(self, indices: Tensor) -> Tensor:
        if not len(indices):
            return torch.empty((0, *self.shape), dtype=torch.uint8)
        reader = ImageReader(self.source.name, self.undo)
        read = self.source.read([self.places[index] for index in indices.tolist()], reader)
        return fitted(read, self.shape, self.source.name)


class PassReader:
    """Goes through images that are too large to keep, once: what is left is their fingerprint."""

    def __init__(self, source: GivenSource, images: ImageReader) -> None:
        """Begin at the images that the reader holds; from then on it holds few."""
        self.source, self.images = source, images
        first = images.take()
        channels, height, width = first.shape[1:]
        self.shape = (channels, height, width)
        self.count = 0
        self._expected = len(source)
        self._digest = PixelDigest(self._expected, self.shape)
        self._go_over(first)

    def go_on(self) -> None:
        """Look at what the reader has taken, some hundred images at a time."""
        if self.images.held >= _READ_SIZE * self.shape[0] * self.shape[1] * self.shape[2]:
            self._go_over(self.images.take())

    def split(self, labels: Tensor) -> DatasetSplit:
        """Return the split of all images, labels (N,) int64.

        Raises:
            DataError: The last images do not go with the others, or are not as many as were asked for.
        """
        if self.images.held:
            self._go_over(self.images.take())
        places = self.source.places
        if len(places) != self.count:
            raise DataError(
                f"{self.images.what}: {self.count} images came of {len(places)} items, which are too large to keep, so "
                "that they cannot be asked for again; let the loader give an image for each item"
            )
        sha256 = self._digest.with_labels(labels) if self.count == self._expected else None
        source = replace(self.source, given=None, places=())
        return DatasetSplit(source, places, self.shape, labels, self.images.undo, sha256)

    def _go_over(self, images: Tensor) -> None:
        self.count += len(images)
        self._digest.add(fitted(images, self.shape, self.images.what))


class PixelDigest:
    """The fingerprint of a split in memory, as :func:`robustprune.runtime.files.hash_arrays` has it, in parts."""

    def __init__(self, count: int, shape: tuple[int, int, int]) -> None:
        """Begin with none of ``count`` images."""
        self._digest = hashlib.sha256(f"images||u1|{(count, *shape)}|".encode())

    def add(self, images: Tensor) -> None:
        """Go on with the next images (n, C, H, W) uint8."""
        self._digest.update(images.contiguous().view(-1).numpy().data)

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
