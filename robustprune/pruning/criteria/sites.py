"""Where in a network features are looked at: what a block returns, its branch, or a convolution's maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from robustprune.errors import PruningError
from robustprune.pruning.blocks import Block, weight_layers

Place = Literal["output", "branch"]

# By name, as foreign networks bring normalizations of their own ("BatchNormAct2d", "LayerNorm2d", "RMSNorm").
_NORMALIZATION = "norm"


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
    layer that has the same shape, which is what the (last) shortcut adds it to.
    """
    calls = _trace(network, images)
    shapes = dict(calls)
    sites = {}
    for block in blocks:
        shape, module = shapes[block.name], block.name
        dim = _channel_dim(network.get_submodule(block.name), shape)
        if place == "branch":
            inside = [
                name
                for name, found in calls
                if name.startswith(f"{block.name}.") and found == shape and _transforms(network.get_submodule(name))
            ]
            if not inside:
                raise PruningError(
                    f"block {block.name} has no layer that returns {tuple(shape[1:])} as the block does, so its "
                    "branch cannot be told from its output; use site=output"
                )
            module = inside[-1]
        sites[block.name] = Site(module, shape, dim)
    return sites


def filter_sites(network: nn.Module, layers: Sequence[str], images: Tensor) -> dict[str, Site]:
    """Return where each convolution's maps are looked at: behind the normalization and activation that follow it.

    Only modules can be seen to follow; an activation called as a function is left out.
    """
    calls = _trace(network, images)
    names = [name for name, _ in calls]
    sites = {}
    for layer in layers:
        place, activation = names.index(layer), None
        shape, module = calls[place][1], layer
        for name, found in calls[place + 1 :]:
            following = network.get_submodule(name)
            if found == shape and _normalizes(following):
                module, activation = name, None
            elif found == shape and _activates(following) and activation is None:
                activation = following
            elif not isinstance(following, (nn.Identity, nn.Dropout)):
                break
        sites[layer] = Site(module, shape, 1, activation)
    return sites


@contextmanager
def watching(network: nn.Module, see: Mapping[str, Callable[[Tensor], None]]) -> Iterator[None]:
    """Hand each named module's output to its function, at once: later layers may write into it."""

    def hook(look: Callable[[Tensor], None]) -> Callable[..., None]:
        return lambda _module, _inputs, output: look(output) if isinstance(output, Tensor) else None

    handles = [network.get_submodule(name).register_forward_hook(hook(look)) for name, look in see.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _trace(network: nn.Module, images: Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """Return the modules that return a tensor, in order of completion, with the tensor's shape."""
    calls: list[tuple[str, tuple[int, ...]]] = []

    def note(name: str) -> Callable[[Tensor], None]:
        return lambda output: calls.append((name, tuple(output.shape)))

    with torch.no_grad(), watching(network, {name: note(name) for name, _ in network.named_modules() if name}):
        network(images)
    return calls


def _channel_dim(block: nn.Module, shape: tuple[int, ...]) -> int:
    """Return which dimension of a block's output its last weight layer made: 1, or the last in channels-last ones."""
    channels = [weight.shape[0] for name, weight in weight_layers(block) if not name.endswith("in_proj_weight")]
    if len(shape) == 4 and shape[1] == channels[-1]:
        return 1
    return len(shape) - 1 if len(shape) == 3 or shape[-1] == channels[-1] else 1


def _transforms(module: nn.Module) -> bool:
    return isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)) or _normalizes(module)


def _normalizes(module: nn.Module) -> bool:
    return _NORMALIZATION in type(module).__name__.lower()


def _activates(module: nn.Module) -> bool:
    return "activation" in type(module).__module__ and not isinstance(module, nn.MultiheadAttention)
