"""The weights that layers read, where those are no parameters of theirs.

A layer's weight may be computed when it is read: by parametrizations such as ``orthogonal``, torch's older
``weight_norm``, ``spectral_norm`` and masks, a property w = tanh(v). The parameters behind it are no weights: a
saliency |v · ∂L/∂v| of theirs says what v does, not what the layer does. Criteria therefore score a network in which
each such weight is a tensor of its own. One computed within the forward pass is its parameter to them.
"""

from __future__ import annotations

from torch import Tensor, nn

from robustprune.errors import PruningError
from robustprune.pruning.blocks import weight_layers


def use_weights(network: nn.Module) -> dict[str, Tensor]:
    """Give each computed weight of a network a tensor of its own, in place; return all weights, by name.

    The network, a copy in evaluation mode, computes the same as before. Gradients can be taken with respect to every
    tensor returned; a module that several names lead to is there under each of them.
    """
    found: dict[nn.Module, tuple[str, Tensor]] = {}
    for full, weight in weight_layers(network):
        name, _, attribute = full.rpartition(".")
        if not weight.is_floating_point():
            raise PruningError(
                f"the weight of {name} is of type {str(weight.dtype).removeprefix('torch.')}, which has no gradient "
                "and no magnitude of its own; score the network before it is quantized"
            )
        module = network.get_submodule(name)
        if attribute not in module._parameters:
            weight = _own_tensor(module, attribute)
        found[module] = attribute, weight
    names = [(name, module) for name, module in network.named_modules(remove_duplicate=False) if module in found]
    return {f"{name}.{found[module][0]}".lstrip("."): found[module][1] for name, module in names}


def _own_tensor(module: nn.Module, attribute: str) -> Tensor:
    """Let a module read one tensor as its weight, whatever computed it before or sets it later; return the tensor."""
    for key, hook in list(module._forward_pre_hooks.items()):
        # Torch's older normalizations and masks compute it before each call.
        if attribute in (getattr(hook, "name", None), getattr(hook, "_tensor_name", None)):
            hook(module, ())
            del module._forward_pre_hooks[key]
    weight: Tensor = getattr(module, attribute).detach().clone().requires_grad_(True)
    fixed = property(lambda _module: weight, lambda _module, _value: None)
    module.__class__ = type(type(module).__name__, (type(module),), {attribute: fixed})
    return weight
