"""Where in a network features are looked at: what a block returns, its branch, or a convolution's maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robustprune.errors import PruningError
from robustprune.pruning.blocks import Block
from robustprune.pruning.criteria.channels import Call, channel_dim, known_channel_dim, normalizes, tensor_in

Place = Literal["output", "branch"]


@dataclass(frozen=True)
class Site:
    """A module whose output is looked at.

    Attributes:
        module: Its name in the network.
        shape: The shape of its output, batch first.
        channel_dim: Which of the output's dimensions counts channels.
        activation: What the output goes through before it is looked at, if anything.
    """

    module: str
    shape: tuple[int, ...]
    channel_dim: int
    activation: nn.Module | None = None

    @property
    def has_feature_maps(self) -> bool:
        """Whether the output is (N, C, H, W)."""
        return len(self.shape) == 4 and self.channel_dim == 1


def block_sites(network: nn.Module, blocks: Sequence[Block], images: Tensor, place: Place) -> dict[str, Site]:
    """Return where each block is looked at, by block name.

    ``output`` is what the block returns; ``branch`` the output of its last convolution, linear or normalization
    layer that has as many channels and positions, which is what the (last) shortcut adds it to.

    Raises:
        PruningError: It cannot be told which dimension counts the channels, or there is no such layer.
    """
    calls = _trace(network, images)
    by_name = {call.name: call for call in calls}
    return {block.name: _block_site(by_name[block.name], calls, place) for block in blocks}


def _block_site(block: Call, calls: Sequence[Call], place: Place) -> Site:
    inside = _within(block, calls)
    shape, dim = tuple(block.output.shape), channel_dim(block, inside)
    if place == "output":
        return Site(block.name, shape, dim)
    for call in reversed(inside):
        own = _transformed_dim(call, inside)
        if own is not None and _channels_first(tuple(call.output.shape), own) == _channels_first(shape, dim):
            return Site(call.name, tuple(call.output.shape), own)
    raise PruningError(
        f"block {block.name} has no layer that returns {shape[1:]} as the block does, so its "
        "branch cannot be told from its output; use site=output"
    )


def _within(call: Call, calls: Sequence[Call]) -> list[Call]:
    members = set(call.module.modules()) - {call.module}
    return [other for other in calls if other.module in members]


def _transformed_dim(call: Call, calls: Sequence[Call]) -> int | None:
    """Return which dimension counts channels in the output of a convolution, linear or normalization layer."""
    if isinstance(call.module, nn.MultiheadAttention):
        return None
    if not normalizes(call.module):
        return known_channel_dim(call)
    with suppress(PruningError):  # nothing in it tells
        return channel_dim(call, _within(call, calls))
    return None


def _channels_first(shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
    return (shape[dim], *shape[:dim], *shape[dim + 1 :])


def filter_sites(network: nn.Module, layers: Sequence[str], images: Tensor) -> dict[str, Site]:
    """Return where each convolution's maps are looked at: behind the normalization and activation that follow it.

    What follows is the module that is given the very tensor the one before returned. An activation called as a
    function is left out.

    Raises:
        PruningError: A convolution that the network never calls as a module.
    """
    calls = _trace(network, images)
    places = {call.name: place for place, call in reversed(list(enumerate(calls)))}
    sites = {}
    for layer in layers:
        if layer not in places:
            raise PruningError(
                f"the network never calls {layer} as a module, so its feature maps cannot be seen; use a criterion of "
                "weights, such as snip or l1, for its filters"
            )
        maps = calls[places[layer]]
        module, activation, features = layer, None, maps.output
        for call in calls[places[layer] + 1 :]:
            if call.features is not features or call.output.shape != features.shape:
                continue
            if normalizes(call.module):
                module, activation = call.name, None
            elif _activates(call.module) and activation is None:
                activation = call.module
            elif not isinstance(call.module, (nn.Identity, nn.Dropout)):
                continue
            features = call.output
        sites[layer] = Site(module, tuple(maps.output.shape), 1, activation)
    return sites


@contextmanager
def watching(network: nn.Module, see: Mapping[str, Callable[[Tensor], None]]) -> Iterator[None]:
    """Hand each named module's output to its function, at once: later layers may write into it.

    Of several outputs it is the first tensor.
    """

    def hook(look: Callable[[Tensor], None]) -> Callable[..., None]:
        def seen(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if (features := tensor_in(output)) is not None:
                look(features)

        return seen

    handles = [network.get_submodule(name).register_forward_hook(hook(look)) for name, look in see.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _trace(network: nn.Module, images: Tensor) -> list[Call]:
    """Return the calls of modules that return a tensor, in order of completion."""
    calls: list[Call] = []

    def note(name: str) -> Callable[..., None]:
        def seen(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
            if (features := tensor_in(output)) is not None:
                calls.append(Call(name, module, inputs, keywords, features))

        return seen

    # Torch lets nobody look into scripted modules.
    modules = [(n, m) for n, m in network.named_modules() if n and not isinstance(m, torch.jit.ScriptModule)]
    handles = [module.register_forward_hook(note(name), with_kwargs=True) for name, module in modules]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _activates(module: nn.Module) -> bool:
    return "activation" in type(module).__module__ and not isinstance(module, nn.MultiheadAttention)
