"""Where to compute, and with how many threads."""

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
