"""Networks that torch treats in ways of their own, run as plain ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from robustprune.models.networks import lazy_layers


def fill_lazy_layers(network: nn.Module, images: Tensor) -> None:
    """Run a network whose layers wait to see their input, once, so that they have their parameters."""
    if lazy_layers(network):
        with torch.no_grad():
            network(images)


class _NoCheckpoint:
    @staticmethod
    def apply(function: Callable[..., Any], _preserve_rng_state: bool, *arguments: Any) -> Any:
        return function(*arguments)


@contextmanager
def without_checkpoints() -> Iterator[None]:
    """Run directly what reentrant checkpoints of ``torch.utils.checkpoint`` wrap, in the whole process.

    These have no gradient by ``torch.autograd.grad`` and no second derivative, and none at all where their input has
    none. What they wrap has all of them, with the same values. The other kind of checkpoint needs no help.
    """
    reentrant = torch.utils.checkpoint.CheckpointFunction
    torch.utils.checkpoint.CheckpointFunction = _NoCheckpoint  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        torch.utils.checkpoint.CheckpointFunction = reentrant  # type: ignore[misc]
