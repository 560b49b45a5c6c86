"""Networks that are no Python any more: what TorchScript and torch.export have built in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

_SWITCHES = ("training", "train")
"""What operations call the argument that says whether they drop out, or normalize by the batch."""

_SWITCHED = ("aten::batch_norm", "aten::dropout", "aten::feature_dropout", "aten::alpha_dropout", "aten::rrelu")


def hides_layers(network: nn.Module) -> bool:
    """Return whether there are layers in a network that hooks do not reach: those of TorchScript and torch.export."""
    return any(
        isinstance(module, torch.jit.ScriptModule)
        or (
            isinstance(module, fx.GraphModule)
            and all(node.op != "call_module" or _is_guard(node) for node in module.graph.nodes)
        )
        for module in network.modules()
    )


def _is_guard(node: fx.Node) -> bool:
    return node.target == "_guards_fn"  # what torch.export checks the images with


def built_in_training(network: nn.Module) -> str | None:
    """Return the operation of a script or graph that trains whatever the mode, if there is one."""
    for module in network.children() if not _is_built_in(network) else [network]:
        if not _is_built_in(module):
            found = built_in_training(module)
        elif isinstance(module, fx.GraphModule):
            found = _trains_in_graph(module)
        else:
            found = _trains_in_script(module)
        if found:
            return found
    return None


def _is_built_in(module: nn.Module) -> bool:
    return isinstance(module, fx.GraphModule | torch.jit.ScriptModule)


def _trains_in_graph(module: fx.GraphModule) -> str | None:
    for node in module.graph.nodes:
        schema: Any = getattr(node.target, "_schema", None)
        if schema is not None and schema.name in _SWITCHED:
            given = {argument.name: value for argument, value in zip(schema.arguments, node.args, strict=False)}
            if _trains(given | node.kwargs):
                return str(schema.name).removeprefix("aten::")
    return None


def _trains_in_script(module: Any) -> str | None:
    graph = module.inlined_graph  # to be held on to as long as its nodes are
    for kind in _SWITCHED:
        for node in graph.findAllNodes(kind, recurse=True):
            names = re.findall(r"(\w+)(?:=[^,()]*)?[,)]", node.schema())
            if _trains(dict(zip(names, map(_constant, node.inputs()), strict=False))):
                return kind.removeprefix("aten::")
    return None


def _constant(value: Any) -> Any:
    """Return an input's constant value, or, where it is computed, the input itself."""
    if str(value.type()) == "NoneType":
        return None
    constant = value.toIValue()
    return value if constant is None else constant


def _trains(given: Mapping[str, Any]) -> bool:
    # Without running statistics a normalization has only those of the batch, in evaluation mode too.
    return any(given.get(switch) is True for switch in _SWITCHES) and given.get("running_mean", given) is not None
