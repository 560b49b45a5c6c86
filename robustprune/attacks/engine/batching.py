"""Sending many samples through a network a batch at a time, in smaller ones where memory runs out."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from robustprune.errors import ModelWarning

# How torch's allocators, and the C++ library below them, put it.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")


class Batches:
    """How many samples go through a network at once: as many as asked for, until that proves too much.

    Attributes:
        size: Samples per batch; only ever falls.
    """

    def __init__(self, size: int) -> None:
        """Start with ``size`` samples per batch."""
        self.size = size

    def run(self, rows: Tensor, work: Callable[[Tensor], None]) -> None:
        """Call ``work`` with consecutive parts of ``rows`` (n,); a part that runs out of memory comes again, halved.

        Args:
            rows: Indices of samples.
            work: Takes a part of them, and does nothing that counts before it is past the network.
        """
        start = 0
        while start < len(rows):
            part = rows[start : start + self.size]
            try:
                work(part)
            except Exception as error:
                if len(part) == 1 or not is_out_of_memory(error):
                    raise
                self.size = len(part) // 2
                warnings.warn(
                    f"memory ran out on {len(part)} samples at once; going on with {self.size}",
                    ModelWarning,
                    stacklevel=2,
                )
                continue
            start += len(part)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one that it came from, says that memory ran out."""
    while error is not None:
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY):
            return True
        error = error.__cause__
    return False
