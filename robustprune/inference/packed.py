"""The convolutions, ReLUs and sums of a network that is not trained any more, as a program of their own."""

from __future__ import annotations

import operator
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from robustprune.inference.folding import has_hooks
from robustprune.inference.program import PackedConvolution, Program, Step, can_be_packed
from robustprune.runtime.randomness import isolated_generators

_SUMS = (operator.add, operator.iadd, torch.add)
_RECTIFIERS = (torch.relu, F.relu)
_PROGRAM = "packed_convolutions"


class Packed(nn.Module):
    """A network in evaluation mode whose longest run of convolutions, ReLUs and sums is such a program.

    It takes float32 images on the CPU and gives the same logits, and gradients with respect to images, but none with
    respect to weights, and no second ones. What overflows on the way to not-a-number is zero behind a ReLU. To be
    compared before use. It shares the weights of the ``network``.
    """

    def __init__(self, network: nn.Module) -> None:
        """Look for the run; raise a ValueError where there is none, and whatever tracing raises."""
        super().__init__()
        traced = _trace(network)
        run = _longest_run(traced)
        if not run:
            raise ValueError("no convolutions in a row")
        self.network = network
        self._fast = _with_program(traced, run, Program(_join(traced, run), run[-1]))
        self.eval()

    def __reduce__(self) -> tuple[type[Packed], tuple[nn.Module]]:
        """Be copied and pickled as the network, and looked through anew: graphs are too deep for either."""
        return Packed, (self.network,)

    def forward(self, *maps: Tensor) -> Tensor:
        """Return logits (n, K) of images (n, C, H, W), or what else the network makes of what it reads."""
        return self._fast(*maps)  # type: ignore[no-any-return]


def _trace(network: nn.Module) -> fx.GraphModule:
    """Return a network as a graph; it shares its layers, without those that hand on what they read.

    Random numbers that it drew in Python would be the same ever after, and hooks would not be called any more.
    """
    if any(has_hooks(module) for module in network.modules()):
        raise ValueError("hooks listen to this network")
    with isolated_generators(0):
        expected = _next_draws()
    with isolated_generators(0):
        traced = fx.symbolic_trace(network)
        if _next_draws() != expected:
            raise ValueError("this network draws random numbers")
    for node in list(traced.graph.nodes):
        if node.op == "call_module" and len(node.args) == len(node.all_input_nodes) == 1:
            module = traced.get_submodule(node.target)
            if type(module) is nn.Identity or (type(module) is nn.Dropout and not module.training):
                node.replace_all_uses_with(node.args[0])
                traced.graph.erase_node(node)
    return traced


def _next_draws() -> tuple[float, ...]:
    return float(torch.rand(())), float(np.random.rand()), random.random()


def _longest_run(traced: fx.GraphModule) -> list[fx.Node]:
    """Return the consecutive nodes of most convolutions that a program can do and of which only the last is read."""
    nodes = list(traced.graph.nodes)
    kinds = [_kind(node, traced) for node in nodes]
    places = {node: place for place, node in enumerate(nodes)}
    last_reads = [max((places[user] for user in node.users), default=place) for place, node in enumerate(nodes)]
    best, most = (0, 0), (0, 0)
    for start in range(len(nodes)):
        convolutions, read_until = 0, start
        for place in range(start, len(nodes)):
            if kinds[place] is None:
                break
            convolutions += kinds[place] == "convolution"
            # Of as many convolutions the longer run, which has the ReLUs and sums behind the last one.
            if read_until <= place and convolutions and (convolutions, place - start) > most:
                best, most = (start, place + 1), (convolutions, place - start)
            read_until = max(read_until, last_reads[place])
    return nodes[slice(*best)]


def _kind(node: fx.Node, traced: fx.GraphModule) -> str | None:
    """Return what a node does, if a program can do it: ``"convolution"``, ``"relu"`` or ``"sum"``."""
    n_read = sum(isinstance(each, fx.Node) for each in node.args)
    if n_read != len(node.args) or not set(node.kwargs) <= {"inplace"}:
        return None
    if node.op == "call_function" and n_read == 2 and node.target in _SUMS:
        return "sum"
    if node.op == "call_function" and n_read == 1 and node.target in _RECTIFIERS:
        return "relu"
    module = traced.get_submodule(str(node.target)) if node.op == "call_module" and n_read == 1 else None
    if type(module) is nn.ReLU:
        return "relu"
    if type(module) is nn.Conv2d and can_be_packed(module):
        return "convolution"
    return None


def _join(traced: fx.GraphModule, run: Sequence[fx.Node]) -> list[Step]:
    """Return the nodes of a run as steps, with ReLUs and sums joined to what only they read."""
    reads: Counter[fx.Node] = Counter()
    for node in traced.graph.nodes:
        fx.map_arg((node.args, node.kwargs), lambda read: reads.update([read]))
    steps: dict[fx.Node, Step] = {}
    for node in run:
        what, (main, *others) = _kind(node, traced), [each for each in node.args if isinstance(each, fx.Node)]
        step = Step(node, main)
        if what == "convolution":
            step = replace(step, convolution=PackedConvolution(traced.get_submodule(str(node.target))))  # type: ignore[arg-type]
        elif what == "relu":
            before = steps.get(main)
            if before is not None and reads[main] == 1 and not before.is_rectified:
                step = steps.pop(main)
            step = replace(step, node=node, is_rectified=True)
        else:
            (other,) = others
            step = replace(step, other=other)
            for own, added in ((main, other), (other, main)):
                before = steps.get(own)
                is_plain = before is not None and before.convolution and not (before.other or before.is_rectified)
                if is_plain and reads[own] == 1:
                    step = replace(steps.pop(own), node=node, other=added)
                    break
        steps[node] = step
    return list(steps.values())


def _with_program(traced: fx.GraphModule, run: Sequence[fx.Node], program: Program) -> fx.GraphModule:
    """Return the network with the program in place of a run of nodes."""
    traced.add_submodule(_PROGRAM, program)
    with traced.graph.inserting_after(run[-1]):
        made = traced.graph.call_module(_PROGRAM, tuple(program.inputs))
    run[-1].replace_all_uses_with(made)
    for node in reversed(run):
        traced.graph.erase_node(node)
    return fx.GraphModule(traced, traced.graph)
