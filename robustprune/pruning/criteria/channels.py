"""Which dimension of a module's output counts channels, found by trial.

A shape does not tell it: images can be as wide as there are channels, and blocks permute, concatenate and split. A
channel is what one filter writes. So one channel of a layer inside is disturbed, and the dimension is the one along
which the module's output changes at one place: along the others it changes everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from robustprune.errors import PruningError
from robustprune.models import copy_network
from robustprune.pruning.calls import Call, called, tensors
from robustprune.runtime.randomness import seeded_generator

_NEXT_TO_NOTHING = 1e-3  # weights that close a branch at initialization, such as a last normalization's or layer scale
_AT_ONE_PLACE = 0.6  # share of a change; along two positions it is a half at each


def normalizes(module: nn.Module) -> bool:
    """Whether a module is a normalization, by its name, as networks bring their own (``LayerNorm2d``, ``RMSNorm``)."""
    return "norm" in type(module).__name__.lower()


def known_channel_dim(call: Call) -> int | None:
    """Return the dimension of channels in what a layer of torch returns, by its definition; None for other modules."""
    if isinstance(call.module, (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)):
        return 1
    if isinstance(call.module, (nn.Linear, nn.MultiheadAttention)):
        return call.features.ndim - 1
    return None


def channel_dim(call: Call, inside: Sequence[Call]) -> int:
    """Return which dimension of a module's output counts channels.

    ``inside`` are the calls of modules in it, in order of completion.
    """
    if call.features.ndim == 2:
        return 1
    with torch.no_grad():
        probe = _awake(copy_network(call.module))
        before = _result(probe, call)
        for disturbed in _disturbances(probe, call, inside):
            with disturbed:
                after = _result(probe, call)
            found = _place_of_change(before, after)
            if found is not None:
                return found
    raise PruningError(
        f"{call.name} returns {tuple(call.features.shape[1:])}, and no convolution, linear or normalization layer in "
        "it tells which of these dimensions counts channels; use kl, l1 or a gradient criterion"
    )


def _disturbances(probe: nn.Module, call: Call, inside: Sequence[Call]) -> Iterator[AbstractContextManager[None]]:
    """Yield ways to disturb one channel in a copy of a module, from the last layer in it to the first."""
    names = {module: name for name, module in call.module.named_modules()}
    for inner in (*reversed(inside), call):
        layer, dim = probe.get_submodule(names[inner.module]), known_channel_dim(inner)
        if normalizes(layer):  # what follows on a layer may spread its channels over all, as layer normalization does
            for scale in (*layer.parameters(recurse=False), *layer.buffers(recurse=False)):
                if scale.ndim and len(scale) > 1 and scale.is_floating_point():
                    yield _moved(scale)
        elif dim is not None and inner.features.ndim > dim and inner.features.shape[dim] > 1:
            yield _disturbed(layer, dim)


def _awake(module: nn.Module) -> nn.Module:
    """Set parameters that are next to nothing to one, in place: what they scale would not be seen to change."""
    for parameter in module.parameters():
        if parameter.is_floating_point() and float(parameter.abs().max()) < _NEXT_TO_NOTHING:
            parameter.fill_(1)
    return module


def _result(module: nn.Module, call: Call) -> Tensor:
    # Cloned, as it may be a view of what is disturbed later.
    return tensors(called(module, call.arguments))[0].clone()


@contextmanager
def _disturbed(layer: nn.Module, dim: int) -> Iterator[None]:
    """Add to the first channel of a layer's output, at each position as much as it is large, up or down."""

    def disturb(_layer: nn.Module, _inputs: Any, output: Any) -> Any:
        first = tensors(output)[0]
        changed = first.clone()
        channel = changed.select(dim, 0)
        signs = torch.randint(2, channel.shape, generator=seeded_generator("disturbance")).to(channel) * 2 - 1
        channel += signs * (first.square().mean().sqrt() + _NEXT_TO_NOTHING)
        return tree_map(lambda value: changed if value is first else value, output)

    handle = layer.register_forward_hook(disturb)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _moved(scale: Tensor) -> Iterator[None]:
    """Change the first of a normalization's numbers, which belongs to the first channel."""
    first = scale[0].clone()
    scale[0] += 1
    try:
        yield
    finally:
        scale[0] = first


def _place_of_change(before: Tensor, after: Tensor) -> int | None:
    """Return the dimension, not the first, along which a tensor changed at one place only, or None."""
    change = (after - before).double().square()
    total = float(change.sum())
    if not 0 < total < torch.inf:
        return None
    dims = [dim for dim in range(1, change.ndim) if change.shape[dim] > 1]
    shares = {dim: float(change.transpose(0, dim).flatten(1).sum(dim=1).max()) / total for dim in dims}
    best = max(dims, key=lambda dim: shares[dim], default=None)
    return best if best is not None and shares[best] > _AT_ONE_PLACE else None
