"""How work is carried out: where, with how many threads, by whom, whom it tells. None of it changes a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from robustprune.runtime.processes import ALONE, Processes

Progress = Callable[[str, float, float], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Work:
    """How work is carried out.

    Attributes:
        processes: Those that share it, each calling alike; all are returned the result of all.
        progress: Called with what is being done, how much of it is done, and how much there is.
        folder: Where it keeps how far it has come, so that an interrupted one is picked up there; None keeps nothing.
        kept: The files there that this work has written or gone on from, by this process; others may share the folder.
    """

    processes: Processes = ALONE
    progress: Progress | None = None
    folder: Path | None = None
    kept: set[Path] = field(default_factory=set, compare=False)


def labelled(progress: Progress | None, label: str) -> Callable[[float, float], None] | None:
    """Return ``progress`` with its label filled in."""
    return None if progress is None else lambda done, total: progress(label, done, total)


def limit_threads(threads: int | None) -> None:
    """Compute with so many threads from now on; None leaves torch's choice."""
    if threads is not None:
        torch.set_num_threads(threads)


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for the next batch, in this process from now on.

    GNU's takes large blocks from the system and gives them back when they are freed, so that each gradient of a batch
    begins with thousands of page faults. The largest block freed so far, up to 32 MiB, is what it keeps, and twice that
    in all (mallopt(3), M_MMAP_THRESHOLD): one is freed here before the first batch. Other libraries take no note.
    """
    most = 2**25 - 2**18  # less what the block itself needs
    torch.empty(most, dtype=torch.uint8)
