"""Convolutions, ReLUs and sums run one after the other on a CPU, there and back, with little memory.

What autograd does in general, and need not be done where weights get no gradients: weights are brought into the layout
of the convolutions at each pass, each sum and each gradient of a ReLU takes new memory, sums and ReLUs are passes of
their own, and all that a layer reads is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

MANY = 16
"""From so many channels written for each one read, a gradient is quicker found by products of matrices."""

_How = tuple[list[int], list[int], list[int], int]
"""Padding, stride, dilation, groups."""


def padding_of(layer: nn.Conv2d) -> list[int] | None:
    """Return how many zeros a convolution puts at each side, down and across; None where it puts anything else."""
    if layer.padding_mode != "zeros":
        return None
    if layer.padding == "same":
        reach = _reach_of(layer)
        # Of an odd number it is not said how it is shared out.
        return None if any(each % 2 for each in reach) else [each // 2 for each in reach]
    return [0, 0] if layer.padding == "valid" else [int(each) for each in layer.padding]


def _reach_of(layer: nn.Conv2d) -> list[int]:
    """Return how many pixels further than its first one a kernel sees, down and across."""
    return [dilation * (size - 1) for size, dilation in zip(layer.kernel_size, layer.dilation, strict=True)]


def can_be_packed(layer: nn.Conv2d) -> bool:
    """Return whether a convolution can have packed weights, here."""
    # Operations of torch's own compiler, of which a release may think better.
    is_there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")  # type: ignore[no-untyped-call]
    is_usual = layer.weight.dtype == torch.float32 and layer.weight.device.type == "cpu"
    return is_there and is_usual and padding_of(layer) is not None


class PackedConvolution:
    """A convolution whose weights are packed once: one that `can_be_packed`.

    One of stride 1 has for its gradient a convolution with the flipped weights (Dumoulin & Visin 2016,
    arXiv:1603.07285, section 4).

    Attributes:
        needs_input: Whether a gradient is found by other means, with what was read.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        """Share the weights of a layer until they are first needed."""
        padding, reach = padding_of(layer), _reach_of(layer)
        assert padding is not None  # see can_be_packed
        self._layer = layer
        self._how: _How = padding, list(layer.stride), list(layer.dilation), layer.groups
        frame = [further - before for further, before in zip(reach, padding, strict=True)]
        self._how_back: _How = frame, [1, 1], list(layer.dilation), 1
        self.needs_input = layer.groups > 1 or layer.stride != (1, 1) or min(frame) < 0
        self._packed: Tensor | None = None
        self._flipped: Tensor | None = None

    def run(self, maps: Tensor, other: Tensor | None, *, onto_other: bool = False, rectify: bool = False) -> Tensor:
        """Return the convolution of maps, plus ``other``, which may become the sum ``onto_other``, then rectified."""
        if self._packed is None:
            self._packed = _pack(self._layer.weight, self._how, maps)
        then = "relu" if rectify else None
        return _convolve(maps, (self._packed, self._layer.bias, *self._how), other, onto_other=onto_other, then=then)

    def back(self, gradient: Tensor, maps: Tensor | None, onto: Tensor | None) -> Tensor:
        """Return the gradient with respect to what was read, ``maps`` if needed, added to ``onto`` if given."""
        layer = self._layer
        if maps is None and layer.out_channels < MANY * layer.in_channels:
            if self._flipped is None:
                self._flipped = _pack(layer.weight.flip(2, 3).transpose(0, 1), self._how_back, gradient)
            return _convolve(gradient, (self._flipped, None, *self._how_back), onto, onto_other=True)
        if maps is None:
            found = self._scatter(gradient)
        else:
            padding, stride, dilation, groups = self._how
            found = torch.ops.aten.convolution_backward(
                gradient, maps, layer.weight, None, stride, padding, dilation,
                False, [0, 0], groups, [True, False, False],
            )[0]  # fmt: skip
        return found if onto is None else onto.add_(found)

    def _scatter(self, gradient: Tensor) -> Tensor:
        """Return the same by one product of matrices whose rows are then added up, each at its place."""
        layer, (top, left), reach = self._layer, self._how[0], _reach_of(self._layer)
        (n, channels, height, width), (down, across) = gradient.shape, layer.kernel_size
        weights = layer.weight.permute(2, 3, 1, 0).reshape(-1, channels)
        parts = weights @ gradient.permute(0, 2, 3, 1).reshape(-1, channels).T
        parts = parts.reshape(down, across, layer.in_channels, n, height, width)
        found = gradient.new_zeros(layer.in_channels, n, height + reach[0], width + reach[1])
        for row in range(down):
            for column in range(across):
                y, x = row * layer.dilation[0], column * layer.dilation[1]
                found[:, :, y : y + height, x : x + width] += parts[row, column]
        bottom, right = found.shape[2] - top, found.shape[3] - left
        return found[:, :, top:bottom, left:right].transpose(0, 1)


def _convolve(
    maps: Tensor, what: tuple[Any, ...], other: Tensor | None, *, onto_other: bool, then: str | None = None
) -> Tensor:
    """Return a convolution plus ``other``, in its memory if told so; ``what`` are weights, bias and a `_How`."""
    ops = torch.ops.mkldnn
    if other is None:
        return ops._convolution_pointwise(maps, *what, then or "none", [], "")  # type: ignore[no-any-return]
    if onto_other:
        return ops._convolution_pointwise_.binary(other, maps, *what, "add", None, then, [], "")  # type: ignore[no-any-return]
    return ops._convolution_pointwise.binary(maps, other, *what, "add", None, then, [], "")  # type: ignore[no-any-return]


def _pack(weights: Tensor, how: _How, maps: Tensor) -> Tensor:
    weights = weights.detach().contiguous(memory_format=torch.channels_last)
    return torch.ops.mkldnn._reorder_convolution_weight(weights, *how, list(maps.shape))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Step:
    """``node`` is ``main``, perhaps under a convolution, plus ``other``, if there is one, perhaps rectified."""

    node: fx.Node
    main: fx.Node
    convolution: PackedConvolution | None = None
    other: fx.Node | None = None
    is_rectified: bool = False

    def run(self, main: Tensor, other: Tensor | None = None, *, onto_other: bool = False) -> Tensor:
        """Return what it makes of the maps that it reads, of which ``other`` may be changed ``onto_other``."""
        if self.convolution is not None:
            return self.convolution.run(main, other, onto_other=onto_other, rectify=self.is_rectified)
        found = main if other is None else main + other
        return found.relu() if self.is_rectified else found


class Program(nn.Module):
    """Convolutions, ReLUs and sums in a row, of which only one is read by others.

    Attributes:
        inputs: What it reads of others.
    """

    def __init__(self, steps: Sequence[Step], output: fx.Node) -> None:
        """Take the steps in order, and which of the nodes is read by others."""
        super().__init__()
        self.steps, self.output = steps, output
        made = {step.node for step in steps}
        self._last_use = {
            node: number for number, step in enumerate(steps) for node in (step.main, step.other) if node is not None
        }
        self.inputs = [node for node in self._last_use if node not in made]
        # What the way back needs: where ReLUs have let through, and what some convolutions have read.
        rectified = [step.node for step in steps if step.is_rectified]
        needed = [step.main for step in steps if step.convolution is not None and step.convolution.needs_input]
        self.kept = list(dict.fromkeys([*rectified, *needed]))

    def forward(self, *maps: Tensor) -> Tensor:
        """Return the maps that others read, for those of the inputs (n, C, H, W)."""
        if torch.is_grad_enabled() and any(each.requires_grad for each in maps):
            return _Differentiable.apply(self, *maps)  # type: ignore[no-any-return]
        return self.run(maps)[self.output]

    @torch.no_grad()
    def run(self, maps: Sequence[Tensor], keep: Sequence[fx.Node] = ()) -> dict[fx.Node, Tensor]:
        """Return the maps that others read, and those to ``keep``."""
        given = [each.contiguous(memory_format=torch.channels_last) for each in maps]
        there = dict(zip(self.inputs, given, strict=True))
        wanted = {self.output, *keep, *self.inputs}
        for number, step in enumerate(self.steps):
            read = [node for node in (step.main, step.other) if node is not None]
            done = {node for node in read if self._last_use[node] == number and node not in wanted}
            onto_other = step.other in done and step.other is not step.main
            there[step.node] = step.run(*(there[node] for node in read), onto_other=onto_other)
            for node in done:
                del there[node]
        return there

    @torch.no_grad()
    def back(self, gradient: Tensor, kept: dict[fx.Node, Tensor]) -> list[Tensor | None]:
        """Return the gradients with respect to the inputs, given that with respect to the output."""
        # With each, whether its memory is used by nobody else.
        gradients = {self.output: (gradient.contiguous(memory_format=torch.channels_last), False)}

        def add(node: fx.Node, found: Tensor, *, is_ours: bool) -> None:
            if node in gradients:
                before, may_be_changed = gradients[node]
                found, is_ours = before.add_(found) if may_be_changed else before + found, True
            gradients[node] = found, is_ours

        for step in reversed(self.steps):
            if step.node not in gradients:
                continue
            found, is_ours = gradients.pop(step.node)
            if step.is_rectified:
                # Where the ReLU has let something through, zero elsewhere.
                into = found if is_ours else torch.empty_like(found)
                found = torch.ops.aten.threshold_backward.grad_input(found, kept[step.node], 0, grad_input=into)
                is_ours = True
            if step.convolution is None:
                is_ours = is_ours and step.other is None
                add(step.main, found, is_ours=is_ours)
            else:
                maps = kept[step.main] if step.convolution.needs_input else None
                onto = gradients.pop(step.main)[0] if gradients.get(step.main, (None, False))[1] else None
                add(step.main, step.convolution.back(found, maps, onto), is_ours=True)
            if step.other is not None:
                add(step.other, found, is_ours=is_ours)
        return [gradients[node][0] if node in gradients else None for node in self.inputs]


class _Differentiable(torch.autograd.Function):
    """A program as one operation of autograd."""

    @staticmethod
    def forward(ctx: Any, program: Program, *maps: Tensor) -> Tensor:
        """Run it, and keep what the way back needs."""
        there = program.run(maps, keep=program.kept)
        ctx.program = program
        ctx.save_for_backward(*(there[node] for node in program.kept))
        return there[program.output]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients with respect to the maps."""
        program: Program = ctx.program
        kept = dict(zip(program.kept, ctx.saved_tensors, strict=True))
        return (None, *program.back(gradient, kept))
