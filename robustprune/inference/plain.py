"""Networks that torch treats in ways of their own, copied and run as plain ones."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

Network = TypeVar("Network", bound=nn.Module)


def copy_network(model: Network) -> Network:
    """Return a deep copy of a network, also of one that ``copy.deepcopy`` refuses.

    Layers that compute their weight before each call, as torch's older ``weight_norm`` and ``spectral_norm`` do, keep
    the last one together with the graph that made it. Tensors with a graph cannot be copied, so their values are.
    """
    kept = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    with torch.no_grad():  # or the parameters of scripted modules would be no leaves of a graph any more
        return copy.deepcopy(model, {id(value): value.clone() for value in kept if not value.is_leaf})


def fill_lazy_layers(network: nn.Module, images: Tensor) -> None:
    """Run a network whose layers wait to see their input, once, so that they have their parameters."""
    if any(map(is_lazy, (*network.parameters(), *network.buffers()))):
        with torch.no_grad():
            network(images)


@contextmanager
def uncompiled(network: nn.Module) -> Iterator[None]:
    """Run a network's own code where ``torch.compile`` would run other code.

    Compiled code has no second derivative, passes by hooks, and does products where no counter sees them.
    """
    if not any("_orig_mod" in module._modules or module._compiled_call_impl for module in network.modules()):
        yield
        return
    with torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
        # Counters hook on to all modules, of which the wrapper of a compiled one warns.
        warnings.filterwarnings("ignore", r"Using `torch\.compile\(module\)` when there are global hooks")
        yield


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
