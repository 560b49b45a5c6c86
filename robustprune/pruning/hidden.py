"""Why no residual block was found in a network: there is none, or something hides it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustprune.pruning.calls import Call, Joints, foreign_calls
from robustprune.pruning.running import strangers
from robustprune.pruning.silence import residue_of


def why_none(network: nn.Module, images: Tensor, calls: Sequence[Call], joints: Joints) -> str:
    """Return why none of a network's modules is a block that could go, as far as one pass can tell.

    Args:
        network: The network, in evaluation mode.
        images: What it runs on.
        calls: What its modules were called with.
        joints: Where it joins features.
    """
    scripted = [name for name, part in network.named_modules() if isinstance(part, torch.jit.ScriptModule)]
    if scripted:
        return (
            f"{scripted[0] or 'it'} is a TorchScript module, out of which nothing can be taken; give the Python module "
            "that it was made from"
        )
    with foreign_calls(network) as foreign:
        network(images)
    hidden = [module for module in foreign if strangers(module, network)]
    if hidden:
        return (
            f"it calls a {type(hidden[0]).__name__} that is not registered as a part of it, so its blocks cannot be "
            "seen (are they in a plain list, or held by a function, a class or a weak reference, "
            "whose copies go on calling the original?); register them, in an nn.ModuleList for example"
        )
    own = [call.name for call in calls if _has_matrix(call.module) and "zero" not in (residue_of(call) or "zero")]
    if own:
        return (
            f"{own[0]} passes its input through when it is silenced, but has no convolution, linear layer or attention "
            "of torch that could be scored; make its weights those of such layers, or of classes derived from them"
        )
    if not joints.sums:
        return (
            "a block can go only where a shortcut carries its input around it, and this network adds no features to "
            f"others. {_instead(joints)}; choose a residual network"
        )
    again = [call for call in calls if call.count > 1 and next(call.module.parameters(), None) is not None]
    return (
        "a block can go only where a shortcut carries its input around it. This network adds features to others, but "
        "none of its modules passes its input through when it is silenced, and to what none returns is its input added"
        + (f" ({again[0].name}, for one, runs {again[0].count} times). " if again else ". ")
        + "What hides a block: a layer, normalization or factor on the shortcut, a last activation other than ReLU, a "
        "second tensor that it returns, or code that is no module of its own. Let one module return its input plus a "
        "branch, through a ReLU at most"
    )


def _has_matrix(module: nn.Module) -> bool:
    """Whether a module has weights other than factors and shifts of channels."""
    return any(sum(side > 1 for side in weight.shape) > 1 for weight in module.parameters())


def _instead(joints: Joints) -> str:
    if not joints.concatenations and not joints.products:
        return "Plain chains such as VGG have no shortcut"
    how = "concatenates" if joints.concatenations else "multiplies"
    return f"It {how} them, so what follows a block cannot do without what that returns"
