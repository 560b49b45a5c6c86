"""Where to compute: processors and accelerators, by the names that torch gives them."""

from __future__ import annotations

import torch

from robustprune.errors import RobustPruneError

Device = torch.device | str | None
"""A device, its name, or ``auto``; None is where the network's weights are."""

EXAMPLES = "auto (the fastest there is), cpu, cuda, cuda:1, xpu or mps"


def devices_here() -> list[str]:
    """Return the names of the devices of this machine, the fastest first; nothing is started on any."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    cards = range(0 if accelerator is None else torch.accelerator.device_count())
    return [*(f"{accelerator.type}:{number}" for number in cards if accelerator is not None), "cpu"]


def parse_device(name: torch.device | str) -> torch.device:
    """Return the device of a name, be it here or not.

    Raises:
        RobustPruneError: Torch knows no device of that name.
    """
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise RobustPruneError(f"{str(name)!r} is no name of a device; give {EXAMPLES}") from error


def choose_device(name: torch.device | str = "auto") -> torch.device:
    """Return the device of a name, which has to be here; ``auto`` takes the fastest there is.

    Raises:
        RobustPruneError: That device is not here.
    """
    here = devices_here()
    if str(name) == "auto":
        # Without a number, so that of several processes each takes its own card.
        return torch.device(here[0].partition(":")[0])
    device = parse_device(name)
    if device.type == "cpu":
        return device
    if not any(str(device) in (each, each.partition(":")[0]) for each in here):
        raise RobustPruneError(f"there is no device {str(name)!r} on this machine; it has: {', '.join(here)}")
    return device


def is_same_device(first: torch.device, second: torch.device) -> bool:
    """Return whether two names may mean one device: one without a number means any of its kind."""
    return first.type == second.type and (None in (first.index, second.index) or first.index == second.index)
