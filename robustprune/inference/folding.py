"""Batch normalization folded into the convolution or linear layer before it.

In evaluation mode y = γ (Wx + b − μ) / √(σ² + ε) + β is itself such a layer, with weights s·W and bias
s·(b − μ) + β, s = γ / √(σ² + ε) per output channel (Jacob et al. 2018, arXiv:1712.05877, section 3.2). Which layer
a normalization follows is seen in a forward pass, not read from the code, so no network has to be traceable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Of exactly these types: what a subclass does with its weights is its own affair.
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMALIZATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

Foldable = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
Pair = tuple[Foldable, nn.modules.batchnorm._BatchNorm]
"""A layer, and the batch normalization that alone receives what it returns."""


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that read each watched tensor."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._counts: dict[int, int] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled here, and keeping the compiler off would begin with a second of importing it.
        return False

    def watch(self, *tensors: Tensor) -> None:
        self._counts |= dict.fromkeys(map(id, tensors), 0)

    def once(self, tensor: Tensor) -> bool:
        return self._counts[id(tensor)] == 1

    def __torch_dispatch__(
        self, operation: Any, _types: Any, arguments: tuple[Any, ...] = (), keywords: Mapping[str, Any] | None = None
    ) -> Any:
        for value in tree_leaves((arguments, keywords)):
            if id(value) in self._counts:
                self._counts[id(value)] += 1
        return operation(*arguments, **(keywords or {}))


class _Types(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the largest distance of numbers near 1 among the types that operations return."""

    spacing = 0.0
    _should_skip_dynamo = _Reads._should_skip_dynamo

    def __torch_dispatch__(
        self, operation: Any, _types: Any, arguments: tuple[Any, ...] = (), keywords: Mapping[str, Any] | None = None
    ) -> Any:
        found = operation(*arguments, **(keywords or {}))
        for value in tree_leaves(found):
            if isinstance(value, Tensor) and value.is_floating_point():
                self.spacing = max(self.spacing, torch.finfo(value.dtype).eps)
        return found


def coarsest_spacing(network: nn.Module, images: Tensor) -> float:
    """Return the distance of two numbers near 1 in the coarsest floating-point type that a network computes in."""
    types = _Types()  # type: ignore[no-untyped-call]
    with torch.no_grad(), types:
        network(images)
    return float(types.spacing)


def find_pairs(network: nn.Module, images: Tensor) -> list[Pair]:
    """Return the pairs that may be folded: both run once, and nothing else reads the layer's output or weights.

    The network, in evaluation mode, runs once on the images; hooks are put on it and taken off again.
    """
    layers = [module for module in network.modules() if type(module) in _LAYERS and not has_hooks(module)]
    normalizations = [module for module in network.modules() if _is_foldable(module) and not has_hooks(module)]
    calls: Counter[nn.Module] = Counter()
    # What layers returned, and its version then: kept, so that no later tensor can take its identity.
    made: dict[int, tuple[Foldable, Tensor, int]] = {}
    found: list[tuple[Foldable, Tensor, nn.modules.batchnorm._BatchNorm]] = []
    reads = _Reads()
    reads.watch(*(parameter for layer in layers for parameter in layer.parameters()))

    def after_layer(layer: Any, _inputs: Any, output: Tensor) -> None:
        calls[layer] += 1
        reads.watch(output)
        made[id(output)] = layer, output, output._version

    def before_normalization(normalization: Any, inputs: tuple[Any, ...]) -> None:
        calls[normalization] += 1
        if inputs and id(inputs[0]) in made:
            layer, output, version = made[id(inputs[0])]
            # A higher version: something wrote into the output in between.
            if output._version == version:
                found.append((layer, output, normalization))

    handles = [layer.register_forward_hook(after_layer) for layer in layers]
    handles += [module.register_forward_pre_hook(before_normalization) for module in normalizations]
    try:
        with torch.no_grad(), reads:
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return [
        (layer, normalization)
        for layer, output, normalization in found
        if calls[layer] == calls[normalization] == 1
        and all(reads.once(tensor) for tensor in (output, *layer.parameters()))
        # Of a linear layer's (N, L, C), batch normalization would take L for the channels.
        and output.ndim == layer.weight.ndim
    ]


def fold(network: nn.Module, pairs: list[Pair]) -> None:
    """Give the layer of each pair the weights of both, and take the normalization out of the network."""
    replacements: dict[nn.Module, nn.Module] = {}
    for layer, normalization in pairs:
        _absorb(layer, normalization)
        kept = [*normalization.children()] if _is_with_activation(normalization) else []
        replacements[normalization] = (nn.Sequential(*kept) if kept else nn.Identity()).eval()
    for parent in list(network.modules()):
        for name, child in list(parent._modules.items()):
            if child in replacements:
                setattr(parent, name, replacements[child])


def _absorb(layer: Foldable, normalization: nn.modules.batchnorm._BatchNorm) -> None:
    """Compute in float64: rounding twice in float32 would be seen in the logits of a deep network."""
    mean, variance = normalization.running_mean, normalization.running_var
    assert mean is not None  # see _is_foldable
    assert variance is not None
    weight = layer.weight.detach().double()
    scale = (variance.double() + normalization.eps).rsqrt()
    bias = -mean.double() if layer.bias is None else layer.bias.detach().double() - mean.double()
    if normalization.affine:
        scale = scale * normalization.weight.detach().double()
    bias = bias * scale
    if normalization.affine:
        bias = bias + normalization.bias.detach().double()
    folded = weight * scale.reshape(-1, *([1] * (weight.ndim - 1)))
    layer.weight = nn.Parameter(folded.to(layer.weight), requires_grad=False)
    layer.bias = nn.Parameter(bias.to(layer.weight), requires_grad=False)


def _is_foldable(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.modules.batchnorm._BatchNorm)
        and not module.training
        # Without running statistics those of the batch are used, in evaluation mode too.
        and module.running_mean is not None
        and (type(module) in _NORMALIZATIONS or _is_with_activation(module))
    )


def _is_with_activation(module: nn.Module) -> bool:
    """Whether the module is timm's BatchNormAct2d, which most of its networks are made of."""
    return [name for name, _ in module.named_children()] == ["drop", "act"]


def has_hooks(module: nn.Module) -> bool:
    """Whether hooks see, or change, what goes through the module."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)
