"""Work shared among the processes that torchrun started: one process is a group of one, and nothing is different.

All of them run the same program. Where they exchange something, each waits for all others; what fails in one
between two exchanges therefore has to end all, which :meth:`ProcessGroup.raising_everywhere` sees to.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from robustprune.errors import ProcessError
from robustprune.runtime.launch import read_launch

T = TypeVar("T")

TRAINING_TIMEOUT = timedelta(minutes=30)
"""How long to wait for another process: in training there are exchanges at every step."""
EVALUATION_TIMEOUT = timedelta(days=2)
"""In an evaluation there is one after each attack, of which some take a day."""


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a run, as seen by one of them: which it is, from 0, and how many there are."""

    rank: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes, draws and prints."""
        return self.rank == 0

    @property
    def is_single(self) -> bool:
        """Whether there are no others."""
        return self.count == 1

    def rows(self, total: int) -> slice:
        """Return which of ``total`` rows in a row are this process's; shares differ by one at most."""
        least, further = divmod(total, self.count)
        start = self.rank * least + min(self.rank, further)
        return slice(start, start + least + (self.rank < further))

    def share(self, total: int, block: int = 1) -> Tensor:
        """Return the places (n,) of this process's share of ``total`` things, dealt in blocks, in turn."""
        places = torch.arange(total)
        return places[(places // block) % self.count == self.rank]

    def spread(self, total: int, batch: int, work: Callable[[Tensor], Sequence[Tensor]]) -> list[Tensor]:
        """Return ``work`` of all places 0 … total − 1, each process having done its share of whole batches.

        Args:
            total: How many places there are, at least 1.
            batch: Places that are computed together, fewer where there would not be a batch for each process.
            work: From places (n,) to tensors with a row for each, on the CPU.
        """
        if self.is_single:
            return list(work(torch.arange(total)))
        block = min(batch, -(-total // self.count))
        own = self.share(total, block)
        with self.raising_everywhere():
            found = list(work(own)) if len(own) else None
        shares = self.gather(found)
        columns = len(shares[0] or ())
        return [self.joined([None if each is None else each[i] for each in shares], block) for i in range(columns)]

    def joined(self, parts: Sequence[Tensor | None], block: int = 1) -> Tensor:
        """Return the rows of all processes' shares (see :meth:`share`) in their order; None is a share of no rows."""
        found = [part for part in parts if part is not None]
        total = sum(map(len, found))
        result = found[0].new_empty((total, *found[0].shape[1:]))
        for rank, part in enumerate(parts):
            if part is not None:
                result[ProcessGroup(rank, self.count).share(total, block)] = part
        return result

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums of numbers over all processes."""
        if self.is_single:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        with exchanging():
            distributed.all_reduce(total)
        return total.tolist()

    def gather(self, value: T) -> list[T]:
        """Return what all processes give, by rank."""
        if self.is_single:
            return [value]
        found: list[Any] = [None] * self.count
        with exchanging():
            distributed.all_gather_object(found, value)
        return found

    def from_main(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns in the main process, which alone does it."""
        with self.raising_everywhere():
            value = work() if self.is_main else None
        return self.gather(value)[0]  # type: ignore[return-value]

    def main_first(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns here; the others begin when the main process is done, as after a download."""
        found: list[T] = []
        for is_turn in (self.is_main, not self.is_main):
            with self.raising_everywhere():
                found += [work()] if is_turn else []
        return found[0]

    @contextmanager
    def raising_everywhere(self) -> Iterator[None]:
        """Run the block in all processes; if it fails in one, raise its error in all.

        Nothing may be exchanged inside.
        """
        if self.is_single:
            yield
            return
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            failure = error
        told = self.gather(None if failure is None else _portable(failure))
        for each in (failure, *told):
            if each is not None:
                raise each


SINGLE = ProcessGroup()


@contextmanager
def join_process_group(device: torch.device, timeout: timedelta = TRAINING_TIMEOUT) -> Iterator[ProcessGroup]:
    """Join the processes that torchrun started with this one, for the block; without torchrun, be alone.

    They talk by gloo on processors and by NCCL between GPUs, of which each process takes the one of its
    rank on its machine, and wait for each other as long as ``timeout``.

    Raises:
        ProcessError: They cannot be joined, there are fewer GPUs than processes on a machine, or one card is
            named for all.
    """
    launch = read_launch()
    if launch.count == 1:
        yield SINGLE
        return
    if device.type == "cuda":
        if device.index is not None:
            raise ProcessError(
                f"all {launch.count} processes would share the GPU {str(device)!r}; give --device cuda, by "
                "which each takes the card of its rank"
            )
        if launch.local_rank >= torch.cuda.device_count():
            raise ProcessError(
                f"each process takes a GPU of its own, and this machine has {torch.cuda.device_count()}; "
                "start as many with --nproc-per-node, or give --device cpu"
            )
        torch.cuda.set_device(launch.local_rank)
    elif device.type != "cpu":
        raise ProcessError(f"several processes work on cpu or cuda, not on {device.type}; give --device cpu")
    # Its functions take the group there is for a default when they are imported, which the first optimizer does. It
    # would outlive its end, and a thread of gloo's that wakes while the interpreter ends aborts the process
    # (pytorch#190489).
    from torch.distributed.nn import functional  # noqa: F401

    try:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=timeout)
    except (RuntimeError, ValueError) as error:
        raise ProcessError(f"the {launch.count} processes cannot be joined: {error}") from error
    try:
        yield ProcessGroup(launch.rank, launch.count)
    finally:
        distributed.destroy_process_group()


@contextmanager
def exchanging() -> Iterator[None]:
    """Raise a `ProcessError` in place of what torch raises where an exchange with other processes fails."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if not any(word in text.lower() for word in ("gloo", "nccl", "timed out", "connection")):
            raise
        raise ProcessError(
            "another process of this run has ended or no longer answers, and the others cannot go on without it; look "
            f"at what it said last, and for --resume at `robustprune COMMAND --help` ({text.splitlines()[0]})"
        ) from error


def _portable(error: Exception) -> Exception:
    """Return an error that another process can be told of."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return ProcessError(f"another process failed: {type(error).__name__}: {error}")
    return error
