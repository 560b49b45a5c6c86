"""Memory: how much this process may still take, and how much a piece of work takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from robustprune.runtime.control_groups import control_groups, read

_UNLIMITED = 2**60  # bytes; from here on, a limit of cgroup v1 stands for none

_NAMES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""What control groups of version 2 and 1 call a limit, what is used of it, and memory of files that can be dropped."""


def available_memory(device: torch.device, root: Path = Path("/")) -> int | None:
    """Return how many bytes this process may still take on a device, or None where that is not known.

    On a processor it is what Linux can give without swapping, and what the process's control groups, such as those of a
    container, leave of their limits; memory of files, which Linux can drop, counts as free in both.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min(_free_of_machine(root), default=None) if device.type == "cpu" else None


def _free_of_machine(root: Path) -> Iterator[int]:
    fields = _numbers(root / "proc/meminfo")
    if "MemAvailable:" in fields:
        yield 1024 * fields["MemAvailable:"]
    for group in control_groups("memory", root):
        for limit, used, files in _NAMES:
            allowed, taken = (read(group / name).strip() for name in (limit, used))
            if allowed.isdecimal() and taken.isdecimal() and int(allowed) < _UNLIMITED:
                yield max(0, int(allowed) - int(taken) + _numbers(group / "memory.stat").get(files, 0))


def _numbers(file: Path) -> dict[str, int]:
    """Return the numbers of a file of lines that begin with a name and a number."""
    words = [line.split() for line in read(file).splitlines()]
    return {name: int(value) for name, value, *_ in words if value.isdecimal()}


def saved_bytes(run: Callable[[], object], constants: Iterable[Tensor]) -> int:
    """Return the bytes that autograd saves for a backward pass while ``run`` computes, without tensors that are there.

    What ``run`` returns is held on to, as what backward passes need lives as long.
    """
    known = storages(constants)
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            saved[storage._cdata] = storage.nbytes()
        # Detached: a saved output that points back at its own node would never be freed.
        return tensor.detach()

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        _held = run()
    return sum(saved.values())


def storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Return the bytes of each storage that tensors lie in, by its address in torch; views of one share it."""
    return {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
