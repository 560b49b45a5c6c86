"""Layers that see only what is near, and which pixels of a map change with a patch of what they read."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from robustprune.inference import bounds
from robustprune.inference.bounds import Interval
from robustprune.inference.convolution import has_zero_border, padding_of, reach_of
from robustprune.inference.packed import join, kind
from robustprune.inference.program import Step, intervals

Patch = tuple[slice, slice]
"""Rows and columns."""

_POINTWISE = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.GELU, nn.LeakyReLU, nn.BatchNorm2d)
_ARITHMETIC: dict[Callable[..., Any], Callable[..., Tensor]] = {
    operator.add: torch.add,
    operator.iadd: torch.add,
    operator.sub: torch.sub,
    operator.mul: torch.mul,
    operator.truediv: torch.div,
}


@dataclass(frozen=True)
class Sight:
    """What a pixel sees of the map below: across ``reach`` more pixels than one, the first ``padding`` before its own.

    All are pairs, down and across, and the next pixel sees from ``stride`` pixels further on.
    """

    reach: Sequence[int] = (0, 0)
    stride: Sequence[int] = (1, 1)
    padding: Sequence[int] = (0, 0)

    def changed(self, patch: Patch) -> Patch:
        """Return which pixels see a patch of what is below, were there no end to either."""
        rows, columns = (
            slice(-((reach - padding - each.start) // stride), (each.stop - 1 + padding) // stride + 1)
            for each, reach, stride, padding in zip(patch, self.reach, self.stride, self.padding, strict=True)
        )
        return rows, columns

    def seen(self, patch: Patch) -> Patch:
        """Return which pixels of what is below, or of its border, a patch sees."""
        rows, columns = (
            slice(each.start * stride - padding, (each.stop - 1) * stride - padding + reach + 1)
            for each, reach, stride, padding in zip(patch, self.reach, self.stride, self.padding, strict=True)
        )
        return rows, columns


@dataclass(frozen=True)
class Layer:
    """One of the layers that see only what is near.

    Attributes:
        node: What it computes.
        inputs: What it reads: the first through ``sight``, others pixel by pixel.
        sight: How it sees.
        run: Takes windows (n, C, h, w) of the inputs, with their borders.
        run_whole: Takes the whole of each, without.
        multiplications: How many it does for a pixel; none if it sees the first input pixel by pixel, too.
    """

    node: fx.Node
    inputs: tuple[fx.Node, ...]
    sight: Sight
    run: Callable[..., Tensor]
    run_whole: Callable[..., Tensor]
    multiplications: int = 0

    @property
    def pixel_by_pixel(self) -> tuple[fx.Node, ...]:
        """What it reads so."""
        return self.inputs[1:] if self.multiplications else self.inputs


@dataclass(frozen=True)
class Near:
    """The layers of a network that see only what is near.

    Attributes:
        image: What the network reads.
        layers: The layers in order.
        intervals: Between which values their maps lie, as far as is known.
        assumed: Of which maps it is only assumed that they are those of inputs (`bounds.is_input`).
        inside: All nodes that the layers stand for, and the image.
    """

    image: fx.Node
    layers: list[Layer]
    intervals: dict[fx.Node, Interval]
    assumed: frozenset[fx.Node]
    inside: frozenset[fx.Node]


def near_layers(traced: fx.GraphModule) -> Near:
    """Return the layers of a graph with one input that see only what is near."""
    (image,) = (node for node in traced.graph.nodes if node.op == "placeholder")
    known, steps = {image}, []
    others: dict[fx.Node, Layer] = {}
    for node in traced.graph.nodes:
        if kind(node, traced) is not None and known.issuperset(node.all_input_nodes):
            steps.append(node)
        elif (found := _layer(node, traced, known)) is not None:
            others[node] = found
        else:
            continue
        known.add(node)
    joined = join(traced, steps)
    values = intervals(joined, {})
    layers = others | {step.node: _of_step(step, is_safe=bounds.is_safe(values[step.node])) for step in joined}
    made = {step.node for step in joined}
    return Near(
        image,
        [layers[node] for node in traced.graph.nodes if node in layers],
        {node: interval for node, interval in values.items() if node in made},
        frozenset(values.keys() - made),
        frozenset(known),
    )


def _of_step(step: Step, *, is_safe: bool) -> Layer:
    inputs = (step.main,) if step.other is None else (step.main, step.other)
    convolution = step.convolution
    sight = Sight() if convolution is None else Sight(convolution.reach, convolution.stride, convolution.padding)
    return Layer(
        step.node,
        inputs,
        sight,
        partial(step.run, is_safe=is_safe, is_padded=True),
        partial(step.run, is_safe=is_safe),
        0 if convolution is None else convolution.multiplications,
    )


def _layer(node: fx.Node, traced: fx.GraphModule, known: set[fx.Node]) -> Layer | None:
    """Return a layer that is no step, but sees only what is near in what is known; None for others."""
    if node.kwargs or not node.args:
        return None
    read = [each for each in node.args if isinstance(each, fx.Node) and each in known]
    if node.op == "call_module" and len(read) == 1:
        return _of_module(node, read[0], traced.get_submodule(str(node.target)))
    operation = _ARITHMETIC.get(node.target) if node.op == "call_function" and callable(node.target) else None
    if operation is None or len(node.args) != 2 or not read or read[0] is not node.args[0]:
        return None
    if len(read) == 2:
        return Layer(node, (read[0], read[1]), Sight(), operation, operation)
    constant = node.args[1]
    if isinstance(constant, fx.Node) and constant.op == "get_attr":
        value = operator.attrgetter(str(constant.target))(traced)
        if value.ndim == 0 or (value.ndim >= 3 and value.shape[-2:] == (1, 1)):
            return Layer(node, (read[0],), Sight(), run := lambda maps: operation(maps, value), run)
    return None


def _of_module(node: fx.Node, read: fx.Node, module: nn.Module) -> Layer | None:
    if module.training:
        return None
    if type(module) in _POINTWISE:
        return Layer(node, (read,), Sight(), run := partial(_apart, module), run)
    if type(module) is nn.Conv2d and has_zero_border(module):
        sight = Sight(reach_of(module), module.stride, padding_of(module))
        return Layer(node, (read,), sight, partial(_unpadded, module), module, module.weight.numel())
    return None


def _unpadded(layer: nn.Conv2d, maps: Tensor) -> Tensor:
    return F.conv2d(maps, layer.weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups)


def _apart(module: nn.Module, maps: Tensor) -> Tensor:
    """Run a module that may work in place on a copy: others may read its input, too."""
    return module(maps.clone() if getattr(module, "inplace", False) else maps)  # type: ignore[no-any-return]
