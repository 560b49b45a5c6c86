"""How many images a criterion takes at a time: as many as fit into memory, unless the user says.

What autograd saves in a forward pass of a few images is measured, and the line followed. Where batch normalization
uses the batch's statistics, scores depend on how many images are taken together: that number then comes from the
network and the images alone, never from the machine, is said, and is among the options that are recorded.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Annotated, ClassVar, Self, overload

from pydantic import Field, PrivateAttr
from torch import Tensor, nn

from robustprune.data import ImageData, Split
from robustprune.errors import PruningError, PruningWarning
from robustprune.pruning.criteria import (
    Batches,
    BatchNormMode,
    Criterion,
    first_tensor,
    normalizes_batches,
    scoring_copy,
)
from robustprune.runtime.free_memory import available_memory, saved_bytes, storages

SCORING_MEMORY = 3 * 10**9
"""Bytes that scoring takes at most by default, beyond the network and the images."""

_MOST_IMAGES = 128
_LEAST_IMAGES = {True: 8, False: 2}  # of batch statistics, which are noise over fewer; and of none
_COPIES_OF_WEIGHTS = 6  # the scored copy, its gradients and their sums over batches, Hessian products
_PROBES = (2, 3)  # images; not one, which batch normalization cannot train on


class BatchedCriterion(Criterion):
    """A criterion that runs images through the network, batch by batch."""

    bn_mode: BatchNormMode
    batch_size: Annotated[int, Field(ge=2)] | None = Field(
        default=None, description="images per forward pass; by default at most 128, fewer where those would take 3 GB"
    )

    copies_of_activations: ClassVar[float] = 1.0
    """How much is in memory at once, as a share of what autograd saves of a forward pass."""

    _takes: str = PrivateAttr(default="")

    @abstractmethod
    def sample(self, data: ImageData, seed: int) -> Tensor:
        """Return which of the training images are taken."""

    @property
    def takes(self) -> str:
        """What it takes at a time, in words for whoever waits."""
        return self._takes

    def settled(self, name: str, model: nn.Module, data: ImageData, seed: int) -> Self:
        """Return the criterion, called ``name``, with a batch size that fits into memory.

        Raises:
            PruningError: The one that was asked for does not fit; or none does that leaves the scores as they are.

        Warns:
            PruningWarning: Scores depend on the batch size, and fewer images than 128 are taken at a time.
        """
        count = len(self.sample(data, seed))
        network = scoring_copy(model, self.bn_mode)
        depends = self.bn_mode == "batch" and any(map(normalizes_batches, network.modules()))
        fixed, each = self._needs(network, data)
        available = available_memory(first_tensor(network).device)
        free = SCORING_MEMORY if available is None else available
        size = self.batch_size
        if size is None:
            limit = SCORING_MEMORY if depends else min(SCORING_MEMORY, free)
            fitting = max(int((limit - fixed) // each), _LEAST_IMAGES[depends]) if each else _MOST_IMAGES
            size = min(_MOST_IMAGES, fitting)
        together = at_once(count, size)
        need = fixed + each * together
        if available is not None and need > available:
            raise self._does_not_fit(name, together, need, available, int((available - fixed) // max(each, 1)), depends)
        if self.batch_size is None and together < at_once(count, _MOST_IMAGES):
            size = together
            if depends:
                whole = at_once(count, _MOST_IMAGES)
                warnings.warn(
                    f"{name} takes {size} of {count} images at a time, as {whole} would take about "
                    f"{_gigabytes(fixed + each * whole)}. Scores depend on the batch that statistics are of: "
                    f"batch_size={size} is recorded; give another batch_size, or bn_mode=running, to choose otherwise",
                    PruningWarning,
                    stacklevel=4,
                )
        found = self.model_copy(update={"batch_size": size})
        found._takes = f", {together} of {count} images at a time, about {_gigabytes(need)}" if need > 1e9 else ""
        return found

    def _needs(self, network: nn.Module, data: ImageData) -> tuple[int, int]:
        """Return the bytes that scoring takes whatever the batch, and those of each image in it."""
        first, tensors = first_tensor(network), (*network.parameters(), *network.buffers())
        saved = [
            saved_bytes(partial(network, images), tensors)
            for images in (first.new_full((count, data.channels, *data.image_size), 0.5) for count in _PROBES)
        ]
        each = int(self.copies_of_activations * max(0, saved[1] - saved[0]))
        return _COPIES_OF_WEIGHTS * sum(storages(network.parameters()).values()), each

    def _does_not_fit(
        self, name: str, together: int, need: int, free: int, fitting: int, depends: bool
    ) -> PruningError:
        problem = f"{name} would take about {_gigabytes(need)} for {together} images at a time, {_gigabytes(free)} free"
        if fitting < 2:
            return PruningError(f"{problem}, and two images do not fit; take smaller images, or a criterion as l1")
        why = ". Scores depend on the batch that statistics are of, so choose it" if depends else ""
        return PruningError(f"{problem}{why}: batch_size={fitting} fits ({name}:batch_size={fitting})")


def at_once(count: int, batch_size: int) -> int:
    """Return the images in the largest of the batches, of nearly equal size, that images are dealt into."""
    return -(-count // batch_count(count, batch_size))


def batch_count(count: int, batch_size: int) -> int:
    """Return into how many batches images are dealt."""
    return max(1, -(-count // batch_size))


class LazyBatches(Sequence[tuple[Tensor, Tensor]]):
    """Batches that are read when they are asked for, and not kept."""

    def __init__(self, split: Split, chunks: Sequence[Tensor], like: Tensor) -> None:
        """Take the images of each chunk of places from a split, in the type and on the device of a tensor."""
        self._split, self._chunks, self._like = split, chunks, like

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._chunks)

    @property
    def image_count(self) -> int:
        """How many images there are in all of them."""
        return sum(map(len, self._chunks))

    @overload
    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]: ...
    @overload
    def __getitem__(self, place: slice) -> LazyBatches: ...
    def __getitem__(self, place: int | slice) -> tuple[Tensor, Tensor] | LazyBatches:
        """Return images in [0, 1] and labels."""
        if isinstance(place, slice):
            return LazyBatches(self._split, self._chunks[place], self._like)
        chunk, like, labels = self._chunks[place], self._like, self._split.labels
        images = self._split.take(chunk).to(like.device, like.dtype) / 255
        return images.contiguous(), labels[chunk.to(labels.device)].to(like.device)


def as_batches(data: ImageData, indices: Tensor, batch_size: int | None, like: nn.Module) -> LazyBatches:
    """Return training images as batches, in the type and on the device of the network's parameters.

    The batches are of nearly equal size, so that no tiny last one distorts batch statistics, and every class is
    spread evenly over them, also where the set is ordered by class.
    """
    split = data.require("train")
    count = batch_count(len(indices), batch_size or _MOST_IMAGES)
    by_class = indices[split.labels[indices.to(split.labels.device)].cpu().argsort(stable=True)]
    chunks = [by_class[batch::count].sort().values for batch in range(count)]
    return LazyBatches(split, chunks, first_tensor(like))


def image_count(batches: Batches) -> int:
    """Return how many images there are in batches, without reading any."""
    if isinstance(batches, LazyBatches):
        return batches.image_count
    return sum(len(labels) for _, labels in batches)


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
