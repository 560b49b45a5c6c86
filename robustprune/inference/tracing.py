"""The graph of a network's layers and operations, for those who run them in another way."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import fx, nn

from robustprune.inference.folding import has_hooks
from robustprune.runtime.randomness import isolated_generators


def trace(network: nn.Module) -> fx.GraphModule:
    """Return a network as a graph; it shares its layers, without those that do nothing.

    Raises:
        Exception: Whatever tracing raises, as for code that depends on values.
        ValueError: Hooks listen to it, which would not be called any more, or it draws random numbers in Python, which
            would be the same ever after.
    """
    if any(has_hooks(module) for module in network.modules()):
        raise ValueError("hooks listen to this network")
    with isolated_generators(0):
        expected = _next_draws()
    with isolated_generators(0):
        traced = network if isinstance(network, fx.GraphModule) else fx.symbolic_trace(network)
        if _next_draws() != expected:
            raise ValueError("this network draws random numbers")
    return _without_idle(traced)


def _without_idle(traced: fx.GraphModule) -> fx.GraphModule:
    """Return a graph without the layers that hand on what they read."""
    idle = {node for node in traced.graph.nodes if node.op == "call_module" and _is_idle(traced, node)}
    if not idle:
        return traced
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in traced.graph.nodes:
        copies[node] = copies[node.all_input_nodes[0]] if node in idle else graph.node_copy(node, copies.__getitem__)
    return fx.GraphModule(traced, graph)


def _is_idle(traced: fx.GraphModule, node: fx.Node) -> bool:
    module = traced.get_submodule(str(node.target))
    is_ordinary = len(node.args) == len(node.all_input_nodes) == 1
    return is_ordinary and (type(module) is nn.Identity or (type(module) is nn.Dropout and not module.training))


def _next_draws() -> tuple[float, ...]:
    return float(torch.rand(())), float(np.random.rand()), random.random()
