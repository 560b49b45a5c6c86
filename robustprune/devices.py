"""Where to compute, with how many threads, and in which memory."""

from __future__ import annotations

import torch

from robustprune.errors import RobustPruneError


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called ``auto``, ``cpu``, ``cuda`` or ``mps``; auto takes the fastest there is.

    Raises:
        RobustPruneError: That device is not here.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, is_here in available.items() if is_here)
    if not available.get(name, False):
        here = ", ".join(device for device, is_here in available.items() if is_here)
        raise RobustPruneError(f"there is no device {name!r} on this machine; it has: {here}")
    return torch.device(name)


def limit_threads(threads: int | None) -> None:
    """Compute with so many threads from now on; None leaves torch's choice."""
    if threads is not None:
        torch.set_num_threads(threads)


def keep_freed_memory() -> None:
    """Have the C library keep memory that is freed for the next batch, as far as it does so on its own accord.

    The one of GNU takes large blocks from the system and gives them back at once, so that each gradient of a batch
    begins with thousands of page faults. It learns from what is freed to keep blocks of that size, up to 32 MiB, and
    twice as much in all (mallopt(3), M_MMAP_THRESHOLD): here it learns it before the first batch. Others take no note.
    """
    most = 2**25 - 2**18  # less what the block itself needs
    torch.empty(most, dtype=torch.uint8)
