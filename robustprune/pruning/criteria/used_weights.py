"""The weights a network computes with, where those are not its parameters.

A layer's weight may be computed on access (parametrizations such as ``orthogonal``, the older ``weight_norm`` and
``spectral_norm``, a property w = tanh(v)), or within its forward pass (weight standardization, fake quantization).
The parameters behind it are no weights: a saliency |v · ∂L/∂v| of theirs says what v does, not what the layer does.
Criteria therefore score a network in which each computed weight is a tensor of its own, with the value it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from robustprune.errors import PruningError
from robustprune.pruning.blocks import weight_layers
from robustprune.pruning.calls import running_instead

_PRODUCTS = {
    torch.conv1d,
    torch.conv2d,
    torch.conv3d,
    torch.conv_transpose1d,
    torch.conv_transpose2d,
    torch.conv_transpose3d,
    nn.functional.linear,
}  # all take the input first and the weight second


@dataclass
class _Layer:
    """A convolution, linear layer or attention, and the weight it was seen to use."""

    name: str
    module: nn.Module
    attribute: str
    seen: list[Tensor] = field(default_factory=list)

    @property
    def parameter(self) -> nn.Parameter | None:
        """The weight as a parameter; None where it is computed on access, or a buffer."""
        return self.module._parameters.get(self.attribute)

    @property
    def weight(self) -> Tensor:
        weight: Tensor = getattr(self.module, self.attribute)
        return weight

    def note(self, weight: Tensor) -> Tensor:
        if weight.shape == self.weight.shape:
            self.seen.append(weight)
        return weight

    @property
    def is_plain(self) -> bool:
        """Whether nothing but torch's own code comes between a parameter and the product."""
        methods = [getattr(type(self.module), name, None) for name in ("forward", "_conv_forward")]
        changed = self.module._forward_pre_hooks or "forward" in vars(self.module)
        own = all(method.__module__.startswith("torch.nn.modules.") for method in methods if method is not None)
        return self.parameter is not None and own and not changed


def use_weights(network: nn.Module, images: Sequence[Tensor]) -> dict[str, Tensor]:
    """Give each computed weight of a network a tensor of its own, in place; return all weights, by name.

    The network computes the same as before. Gradients can be taken with respect to every tensor returned; a module
    that several names lead to is there under each of them.

    Args:
        network: A copy to score, in evaluation mode.
        images: Two batches to run it on. A weight that depends on the images is none: its parameter stays.

    Raises:
        PruningError: A weight is no floating-point tensor.
    """
    layers = []
    for full, _ in weight_layers(network):
        name, _, attribute = full.rpartition(".")
        layers.append(_Layer(name, network.get_submodule(name), attribute))
    watched = [layer for layer in layers if not layer.is_plain]
    if watched:
        _see(network, watched, images[0])
    if any(layer.parameter is not None and _is_computed(layer) for layer in watched):
        _see(network, watched, images[1])
    weights = {id(layer.module): (layer.attribute, _used(layer)) for layer in layers}
    names = network.named_modules(remove_duplicate=False)
    found = [(name, *weights[id(module)]) for name, module in names if id(module) in weights]
    return {f"{name}.{attribute}" if name else attribute: weight for name, attribute, weight in found}


def _see(network: nn.Module, layers: Sequence[_Layer], images: Tensor) -> None:
    """Note the weights that layers use while the network runs."""
    watched = {layer.module: _with_products(layer.module, layer.note) for layer in layers}
    with torch.no_grad(), running_instead(watched):
        network(images)


def _is_computed(layer: _Layer) -> bool:
    """Whether the layer's products took another tensor than its parameter, the same each time."""
    first, parameter = layer.seen[:1], layer.parameter
    return bool(first) and all(seen is not parameter and torch.equal(seen, first[0]) for seen in layer.seen)


def _used(layer: _Layer) -> Tensor:
    """Return the weight the layer uses, a parameter or a tensor that is one for the layer from now on."""
    parameter = layer.parameter
    if parameter is not None and not _is_computed(layer):
        weight: Tensor = parameter
    else:
        # A hook may set the weight only when the layer is called, so what was seen goes before what is there.
        weight = (layer.seen[0] if layer.seen else layer.weight).detach().clone()
    if not weight.is_floating_point():
        raise PruningError(
            f"the weight of {layer.name} is of type {str(weight.dtype).removeprefix('torch.')}, which has no gradient "
            "and no magnitude of its own; score the network before it is quantized"
        )
    if weight is parameter:
        return weight
    weight.requires_grad_(True)
    if parameter is None:
        _read_as(layer.module, layer.attribute, weight)
    else:
        shape = parameter.shape
        layer.module.forward = _with_products(layer.module, lambda given: weight if given.shape == shape else given)
    return weight


def _read_as(module: nn.Module, attribute: str, weight: Tensor) -> None:
    """Let an attribute of one module read as a tensor, whatever computed it before or sets it later."""
    fixed = property(lambda _module: weight, lambda _module, _value: None)
    module.__class__ = type(type(module).__name__, (type(module),), {attribute: fixed})
    for key, hook in list(module._forward_pre_hooks.items()):
        # Torch's older normalizations and masks would go on computing it in vain.
        if attribute in (getattr(hook, "name", None), getattr(hook, "_tensor_name", None)):
            del module._forward_pre_hooks[key]


def _with_products(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """Return the forward pass of a module that takes its products with another weight than it asks for."""
    plain = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with _Products(change):
            return plain(*args, **kwargs)

    return forward


class _Products(TorchFunctionMode):
    """Hands the weight of every convolution and linear product to a function, and takes what it returns instead."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._change = change

    def __torch_function__(
        self, function: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        keywords = dict(kwargs or {})
        if function in _PRODUCTS:
            if len(args) > 1:
                args = (args[0], self._change(args[1]), *args[2:])
            elif "weight" in keywords:
                keywords["weight"] = self._change(keywords["weight"])
        return function(*args, **keywords)
