"""The graph of a network's layers and operations, for those who run them in another way."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import fx, nn

from robustprune.inference.folding import has_hooks
from robustprune.randomness import isolated_generators


def trace(network: nn.Module) -> fx.GraphModule:
    """Return a network as a graph; it shares its layers.

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
    return traced


def _next_draws() -> tuple[float, ...]:
    return float(torch.rand(())), float(np.random.rand()), random.random()
