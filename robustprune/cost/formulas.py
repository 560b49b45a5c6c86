"""Multiply-accumulates of operations that torch's counter of floating-point operations leaves out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten

Shape = Sequence[int]

_OWN_NAMESPACES = ("aten", "prim", "prims", "profiler", "torchvision")


class ProductCounter(FlopCounterMode):
    """Counts two floating-point operations for each multiply-accumulate of a product, within each module.

    Attributes:
        unknown: Operations that were carried out and may hold products, but that no formula is known for.
    """

    def __init__(self) -> None:
        """Know the formulas of torch and those of this module."""
        super().__init__(display=False, custom_mapping=_formulas())
        self.unknown: list[str] = []

    def _count_flops(self, func_packet: Any, out: Any, args: Any, kwargs: Any) -> Any:
        name = str(getattr(func_packet, "_qualified_op_name", func_packet))
        if func_packet not in self.flop_registry and _may_multiply(name) and name not in self.unknown:
            self.unknown.append(name)
        return super()._count_flops(func_packet, out, args, kwargs)  # type: ignore[no-untyped-call]


def _may_multiply(name: str) -> bool:
    """Whether an operation without a formula may hold products: those of other packages, and hidden ones."""
    namespace, _, operation = name.partition("::")
    if namespace not in _OWN_NAMESPACES:
        return True
    # Scripted modules that are optimized for inference do their products where nothing sees them.
    return operation.endswith("mm") or operation == "to_mkldnn"


def _formulas() -> dict[Any, Callable[..., int]]:
    known: dict[Any, Callable[..., int]] = {
        aten.mv: lambda matrix, _vector, **_: 2 * prod(matrix),
        aten.addmv: lambda _added, matrix, _vector, **_: 2 * prod(matrix),
        aten.dot: lambda vector, _other, **_: 2 * prod(vector),
        aten.vdot: lambda vector, _other, **_: 2 * prod(vector),
        aten.addbmm: lambda _added, first, second, **_: 2 * prod(first) * second[-1],
        aten.mkldnn_linear: lambda features, weight, *_, **__: 2 * prod(features) * weight[0],
        aten.mkldnn_convolution: _convolution,
        aten.conv_tbc: lambda _features, weight, *_, out_shape, **__: 2 * prod(out_shape) * prod(weight[:2]),
        aten.mkldnn_rnn_layer: _recurrent,
        aten._trilinear: _bilinear,
    }
    if "torchvision" in sys.modules:  # which brings the operation
        known[torch.ops.torchvision.deform_conv2d] = _convolution
    return known


def _convolution(_features: Shape, weight: Shape, *_: Any, out_shape: Shape, **__: Any) -> int:
    return 2 * prod(out_shape) * prod(weight[1:])


def _recurrent(features: Shape, from_input: Shape, from_state: Shape, *_: Any, **__: Any) -> int:
    steps_and_sequences = prod(features[:2])
    return 2 * steps_and_sequences * (prod(from_input) + prod(from_state))


def _bilinear(first: Shape, weight: Shape, second: Shape, *expanded: list[int], **_: Any) -> int:
    """Return one multiply-accumulate for each weight and position: of xᵀWz, where all three are spread to one shape."""
    shapes = [list(first), list(weight), list(second)]
    for shape, places in zip(shapes, expanded[:3], strict=True):
        for place in sorted(places):
            shape.insert(place, 1)
    products: int = prod(max(sides) for sides in zip(*shapes, strict=True))
    return 2 * products
