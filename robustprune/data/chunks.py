"""Images that are read as they are used, a batch at a time, by other processes where there are some."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from robustprune.data.splits import Batch
from robustprune.errors import DataError
from robustprune.runtime.progress import shown_progress
from robustprune.runtime.work import labelled, steps

Load = Callable[[Tensor], Tensor]
"""From places (n,) in a split to its images (n, C, H, W) uint8."""


_READ_SIZE = 256  # images a worker reads at a time when the caller names no batch size


def read_images_at(load: Load, indices: Tensor, shape: tuple[int, int, int], workers: int) -> Tensor:
    """Return the images at some places (n,) as one tensor, each of a shape (C, H, W).

    Raises:
        DataError: As `read_chunks`.
    """
    images = torch.empty((len(indices), *shape), dtype=torch.uint8)
    chunks = torch.split(indices.cpu(), _READ_SIZE)
    # Starting processes costs more than reading a few images.
    read = read_chunks(load, chunks, workers if len(chunks) > 1 else 0)
    step = steps(labelled(shown_progress() if len(chunks) > 1 else None, "reading images"), len(chunks))
    for target, chunk in zip(torch.split(images, _READ_SIZE), read, strict=True):
        target.copy_(chunk)
        step()
    return images


def read_batches(
    load: Load, labels: Tensor, chunks: Sequence[Tensor], workers: int, device: torch.device | str
) -> Iterator[Batch]:
    """Yield the images at some places, chunk by chunk, with their labels, on ``device``.

    Raises:
        DataError: As `read_chunks`.
    """
    pinned = torch.device(device).type == "cuda"
    for indices, images in zip(chunks, read_chunks(load, chunks, workers, pinned), strict=True):
        yield Batch(images.to(device, non_blocking=pinned), labels[indices].to(device), indices.to(device))


def read_chunks(load: Load, chunks: Sequence[Tensor], workers: int, pinned: bool = False) -> Iterator[Tensor]:
    """Yield the images of some places, chunk by chunk; 0 workers read in this process.

    Raises:
        DataError: Loading does, or a reading process ended.
    """
    # A generator of its own, because otherwise every loader draws a seed from torch's global one.
    loader = iter(
        DataLoader(
            _Chunks(load, chunks),
            batch_size=None,
            num_workers=min(workers, len(chunks)),
            pin_memory=pinned,
            generator=torch.Generator(),
        )
    )
    try:
        for read in loader:
            if isinstance(read, str):
                raise DataError(read)
            yield read
    except (RuntimeError, OSError) as error:
        raise DataError(f"reading images stopped: {error}") from error
    finally:
        del loader  # ends the processes now, not when the traceback that holds this frame is let go


class _Chunks(Dataset["Tensor | str"]):
    """Whole batches as items. A failure is an item too: the loader would bury an exception in a traceback."""

    def __init__(self, load: Load, chunks: Sequence[Tensor]) -> None:
        self.load = load
        self.chunks = chunks

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, number: int) -> Tensor | str:
        try:
            return self.load(self.chunks[number])
        except DataError as error:
            return str(error)
