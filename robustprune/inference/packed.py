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

from robustprune.inference.convolution import PackedConvolution, can_be_packed
from robustprune.inference.folding import has_hooks
from robustprune.inference.program import Program, Step
from robustprune.runtime.randomness import isolated_generators

_SUMS = (operator.add, operator.iadd, torch.add)
_RECTIFIERS = (torch.relu, F.relu)
_PROGRAM = "packed_convolutions"


class Packed(nn.Module):
    """A network in evaluation mode whose longest run of convolutions, ReLUs and sums is such a program.

    It takes float32 images on the CPU and gives the same logits, and gradients with respect to images, but none with
    respect to weights, and no second ones. To be compared before use.

    Attributes:
        network: The network itself, whose weights it shares.
    """

    def __init__(self, network: nn.Module) -> None:
        """Look for the run.

        Raises:
            Exception: Whatever tracing raises, as for code that depends on values.
            ValueError: There is no such run, hooks listen to it, or it draws random numbers.
        """
        super().__init__()
        traced = trace(network)
        run = _longest_run(traced)
        if not run:
            raise ValueError("no convolutions in a row")
        self.network = network
        self._fast = _with_program(traced, run, Program(_early(_join(traced, run)), run[-1]))
        self.eval()

    def __reduce__(self) -> tuple[type[Packed], tuple[nn.Module]]:
        """Be copied and pickled as the network, and looked through anew: graphs are too deep for either."""
        return Packed, (self.network,)

    def forward(self, *maps: Tensor) -> Tensor:
        """Return logits (n, K) of images (n, C, H, W), or what else the network makes of what it reads."""
        return self._fast(*maps)  # type: ignore[no-any-return]


def _join(traced: fx.GraphModule, run: Sequence[fx.Node]) -> list[Step]:
    """Return nodes as steps, with ReLUs and sums joined to what only they read.

    Args:
        traced: The graph.
        run: Some of its nodes in order, of a `_kind`.
    """
    reads: Counter[fx.Node] = Counter()
    for node in traced.graph.nodes:
        fx.map_arg((node.args, node.kwargs), lambda read: reads.update([read]))
    steps: dict[fx.Node, Step] = {}

    def take(node: fx.Node, *, is_plain: bool) -> Step | None:
        """Take a step from the others that only one reads and that has not been rectified, or is a convolution only."""
        step = steps.get(node)
        if step is None or reads[node] > 1 or step.is_rectified or (is_plain and not step.is_plain):
            return None
        return steps.pop(node)

    for node in run:
        read = [each for each in node.args if isinstance(each, fx.Node)]
        what = _kind(node, traced)
        if what == "convolution":
            steps[node] = Step(node, read[0], PackedConvolution(traced.get_submodule(str(node.target))))  # type: ignore[arg-type]
        elif what == "relu":
            before = take(read[0], is_plain=False) or Step(node, read[0])
            steps[node] = replace(before, node=node, is_rectified=True)
        elif what == "sum":
            first, second = read
            if joined := take(first, is_plain=True):
                steps[node] = replace(joined, node=node, other=second)
            elif joined := take(second, is_plain=True):
                steps[node] = replace(joined, node=node, other=first)
            else:
                steps[node] = Step(node, first, other=second)
    return list(steps.values())


def _early(steps: Sequence[Step]) -> list[Step]:
    """Return the steps with convolutions that stand alone, as those of shortcuts do, as soon as they can be done.

    On the way back they are so the last to add to a gradient that is there by then.
    """
    found: list[Step] = []
    for step in steps:
        made = [number for number, before in enumerate(found, start=1) if before.node is step.main]
        found.insert(max(made, default=0) if step.is_plain else len(found), step)
    return found


def _kind(node: fx.Node, traced: fx.GraphModule) -> str | None:
    """Return what a node does, if a program can do it: ``"convolution"``, ``"relu"`` or ``"sum"``."""
    n_read = sum(isinstance(each, fx.Node) for each in node.args)
    if n_read != len(node.args) or not set(node.kwargs) <= {"inplace"}:
        return None
    if node.op == "call_module" and n_read == 1:
        return _kind_of_module(traced.get_submodule(str(node.target)))
    if node.op == "call_function":
        if node.target in _SUMS and n_read == 2:
            return "sum"
        if node.target in _RECTIFIERS and n_read == 1:
            return "relu"
    return None


def _kind_of_module(module: nn.Module) -> str | None:
    if module.training:
        return None
    if type(module) is nn.ReLU:
        return "relu"
    if type(module) is nn.Conv2d and can_be_packed(module):
        return "convolution"
    return None


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


def _with_program(traced: fx.GraphModule, run: Sequence[fx.Node], program: Program) -> fx.GraphModule:
    """Return the network with the program in place of a run of nodes."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    parts: dict[str, object] = {_PROGRAM: program}
    inside = set(run)
    for node in traced.graph.nodes:
        if node is run[-1]:
            copies[node] = graph.call_module(_PROGRAM, tuple(copies[each] for each in program.inputs))
        elif node not in inside:
            copies[node] = graph.node_copy(node, copies.__getitem__)
            if node.op in ("call_module", "get_attr"):
                parts[str(node.target)] = operator.attrgetter(str(node.target))(traced)
    return fx.GraphModule(parts, graph)


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
