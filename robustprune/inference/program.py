"""Convolutions, ReLUs and sums run one after the other, there and back, with little memory.

What autograd does in general, and need not be done where weights get no gradients: weights are brought into the layout
of the convolutions at each pass, each sum and each gradient of a ReLU takes new memory, sums and ReLUs are passes of
their own, and all that a layer reads is kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from robustprune.inference import bounds
from robustprune.inference.bounds import Interval
from robustprune.inference.convolution import PackedConvolution


@dataclass(frozen=True)
class Step:
    """``node`` is ``main``, perhaps under a convolution, plus ``other``, if there is one, perhaps rectified."""

    node: fx.Node
    main: fx.Node
    convolution: PackedConvolution | None = None
    other: fx.Node | None = None
    is_rectified: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it is a convolution and nothing more."""
        return self.convolution is not None and self.other is None and not self.is_rectified

    def run(
        self,
        main: Tensor,
        other: Tensor | None = None,
        *,
        onto_other: bool = False,
        is_safe: bool = False,
    ) -> Tensor:
        """Return what it makes of the maps that it reads.

        Args:
            main: The maps of ``main``.
            other: Those of ``other``.
            onto_other: Whether the latter may be changed.
            is_safe: Whether nothing can become NaN, which a convolution that rectifies would make zero.
        """
        if self.convolution is None:
            if other is None:
                return main.relu()
            found, is_done = main + other, False
        else:
            is_done = is_safe and self.is_rectified
            found = self.convolution.run(main, other, onto_other=onto_other, rectify=is_done)
        return found.relu_() if self.is_rectified and not is_done else found

    def interval(self, main: Interval, other: Interval | None) -> Interval:
        """Return between which values those lie that it computes, given between which lie those that it reads."""
        found = main if self.convolution is None else self.convolution.interval(main)
        if other is not None:
            found = bounds.of_sum(found, other)
        return bounds.of_relu(found) if self.is_rectified else found


def _intervals(steps: Sequence[Step]) -> dict[fx.Node, Interval]:
    """Return between which values the maps of the steps lie."""
    found: defaultdict[fx.Node, Interval] = defaultdict(bounds.of_input)
    for step in steps:
        found[step.node] = step.interval(found[step.main], None if step.other is None else found[step.other])
    return dict(found)


class Program(nn.Module):
    """Convolutions, ReLUs and sums in a row, of which only one is read by others."""

    def __init__(self, steps: Sequence[Step], output: fx.Node) -> None:
        """Take the steps in order, and which of the nodes is read by others."""
        super().__init__()
        self.steps, self.output = steps, output
        made = {step.node for step in self.steps}
        read = [node for step in self.steps for node in (step.main, step.other) if node is not None]
        self.inputs = [node for node in dict.fromkeys(read) if node not in made]
        last_use = {
            node: number
            for number, step in enumerate(self.steps)
            for node in (step.main, step.other)
            if node is not None
        }
        # What is known before the first pass: a pass of a small batch spends a tenth of its time between convolutions.
        self._read_last = [[node for node, last in last_use.items() if last == each] for each in range(len(self.steps))]
        self._may_take_sum = [
            step.other is not None and last_use[step.other] == number and step.other not in {*self.inputs, step.main}
            for number, step in enumerate(self.steps)
        ]
        self._fitting: set[tuple[int, torch.Size, torch.Size]] = set()
        # What the way back needs: where ReLUs have let through, and what some convolutions have read.
        rectified = [step.node for step in self.steps if step.is_rectified]
        needed = [step.main for step in self.steps if step.convolution is not None and step.convolution.needs_input]
        self.kept = list(dict.fromkeys([*rectified, *needed]))
        self._safe: frozenset[fx.Node] | None = None  # what is found out with the weights of the first pass

    def forward(self, *maps: Tensor) -> Tensor:
        """Return the maps that others read, for those of the inputs (n, C, H, W).

        Raises:
            ValueError: Maps of different shapes are to be added.
        """
        if torch.is_grad_enabled() and any(each.requires_grad for each in maps):
            return _Differentiable.apply(self, *maps)  # type: ignore[no-any-return]
        return self.run(maps)[self.output]

    @torch.no_grad()
    def run(self, maps: Sequence[Tensor], keep: Sequence[fx.Node] = ()) -> dict[fx.Node, Tensor]:
        """Return the maps that others read, and those to ``keep``."""
        given = [each.contiguous(memory_format=torch.channels_last) for each in maps]
        there = dict(zip(self.inputs, given, strict=True))
        wanted, safe = {self.output, *keep}, self._safe_steps(given)
        for number, step in enumerate(self.steps):
            there[step.node] = self._do(step, number, there, wanted, is_safe=step.node in safe)
            for node in self._read_last[number]:
                if node not in wanted:
                    del there[node]
        return there

    def _safe_steps(self, inputs: Sequence[Tensor]) -> frozenset[fx.Node]:
        """Return where nothing can overflow, given these inputs."""
        if not all(map(bounds.is_input, inputs)):
            return frozenset()
        if self._safe is None:
            found = _intervals(self.steps)
            self._safe = frozenset(node for node, interval in found.items() if bounds.is_safe(interval))
        return self._safe

    def _do(
        self, step: Step, number: int, there: dict[fx.Node, Tensor], wanted: set[fx.Node], *, is_safe: bool
    ) -> Tensor:
        main = there[step.main]
        if step.other is None:
            return step.run(main, is_safe=is_safe)
        other = there[step.other]
        shapes = number, main.shape, other.shape
        if shapes not in self._fitting:
            shape = main.shape if step.convolution is None else step.convolution.shape(main)
            if other.shape != shape:
                raise ValueError(f"a sum of maps of shapes {tuple(shape)} and {tuple(other.shape)}")
            self._fitting.add(shapes)
        onto_other = self._may_take_sum[number] and step.other not in wanted
        return step.run(main, other, onto_other=onto_other, is_safe=is_safe)

    @torch.no_grad()
    def back(self, gradient: Tensor, kept: dict[fx.Node, Tensor]) -> list[Tensor | None]:
        """Return the gradients with respect to the inputs, given that with respect to the output."""
        gradients = _Gradients()
        gradients.add(self.output, gradient.contiguous(memory_format=torch.channels_last), is_ours=False)
        for step in reversed(self.steps):
            found, is_ours = gradients.pop(step.node)
            if found is None:
                continue
            if step.is_rectified:
                found, is_ours = _let_through(found, kept[step.node], in_place=is_ours), True
            if step.convolution is None:
                is_ours = is_ours and step.other is None
                gradients.add(step.main, found, is_ours)
            else:
                maps = kept[step.main] if step.convolution.needs_input else None
                onto = gradients.pop_ours(step.main)
                gradients.add(step.main, step.convolution.back(found, maps, onto), is_ours=True)
            if step.other is not None:
                gradients.add(step.other, found, is_ours)
        return [gradients.pop(node)[0] for node in self.inputs]


class _Gradients:
    """Gradients with respect to maps, and whether their memory is used by nobody else."""

    def __init__(self) -> None:
        self._there: dict[fx.Node, tuple[Tensor, bool]] = {}

    def add(self, node: fx.Node, gradient: Tensor, is_ours: bool) -> None:
        there, may_be_changed = self.pop(node)
        if there is not None:
            gradient, is_ours = there.add_(gradient) if may_be_changed else there + gradient, True
        self._there[node] = gradient, is_ours

    def pop(self, node: fx.Node) -> tuple[Tensor | None, bool]:
        return self._there.pop(node, (None, False))

    def pop_ours(self, node: fx.Node) -> Tensor | None:
        """Return what may be added to in place, and take it out."""
        there, is_ours = self._there.get(node, (None, False))
        return self._there.pop(node)[0] if there is not None and is_ours else None


def _let_through(gradient: Tensor, rectified: Tensor, *, in_place: bool) -> Tensor:
    """Return a gradient where the ReLU has let something through, zero elsewhere."""
    if in_place:
        return torch.ops.aten.threshold_backward.grad_input(  # type: ignore[no-any-return]
            gradient, rectified, 0, grad_input=gradient
        )
    return torch.ops.aten.threshold_backward(gradient, rectified, 0)  # type: ignore[no-any-return]


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
