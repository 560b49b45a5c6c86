"""Convolutions on a CPU whose weights are packed once, and their gradients.

A convolution of stride 1 has for its gradient a convolution with the flipped weights (Dumoulin & Visin 2016,
arXiv:1603.07285, section 4), which can be added to a gradient that is there already.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robustprune.inference.bounds import Interval, of_convolution

MANY = 16
"""From so many channels written for each one read, a gradient is quicker found by products of matrices."""


def can_be_packed(layer: nn.Conv2d) -> bool:
    """Return whether a convolution can have packed weights, here."""
    # Operations of torch's own compiler, of which a release may think better.
    is_there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")  # type: ignore[no-untyped-call]
    weight = layer.weight
    return is_there and has_zero_border(layer) and weight.dtype == torch.float32 and weight.device.type == "cpu"


class PackedConvolution:
    """A convolution with packed weights: one that `can_be_packed`.

    Attributes:
        reach: How many pixels further than its first one a kernel sees, down and across.
        stride: By how many pixels it moves.
        padding: How many pixels there are in the border, at each side.
        needs_input: Whether a gradient is found with what was read.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        """Share the weights of a layer until they are first needed."""
        self._layer = layer
        self.stride, self._dilation = list(layer.stride), list(layer.dilation)
        self.reach, self.padding = reach_of(layer), padding_of(layer)
        self._bordered: _How = self.padding, self.stride, self._dilation, layer.groups
        framing = [reach - before for reach, before in zip(self.reach, self.padding, strict=True)]
        self._backwards: _How = framing, [1, 1], self._dilation, 1
        self._bias = layer.bias
        self.needs_input = (
            layer.groups > 1
            or self.stride != [1, 1]
            or any(padding > reach for padding, reach in zip(self.padding, self.reach, strict=True))
        )
        self._packed: Tensor | None = None
        self._flipped: Tensor | None = None

    def shape(self, maps: Tensor) -> torch.Size:
        """Return the shape of the convolution of maps."""
        sides = zip(maps.shape[2:], self.padding, self.reach, self.stride, strict=True)
        height, width = ((side + 2 * border - reach - 1) // stride + 1 for side, border, reach, stride in sides)
        return torch.Size((len(maps), self._layer.out_channels, height, width))

    def interval(self, read: Interval) -> Interval:
        """Return between which values what it computes lies, given between which lies what it reads."""
        return of_convolution(self._layer, read)

    def run(
        self,
        maps: Tensor,
        other: Tensor | None = None,
        *,
        onto_other: bool = False,
        rectify: bool = False,
    ) -> Tensor:
        """Return the convolution of maps.

        Args:
            maps: What it reads.
            other: What is to be added.
            onto_other: Whether ``other`` may become the sum.
            rectify: Whether a ReLU follows, one for which the larger of NaN and zero is zero.
        """
        how = self._bordered
        if self._packed is None:
            self._packed = _packed(self._layer.weight, how, maps)
        then = "relu" if rectify else None
        return _convolve(maps, self._packed, self._bias, how, other, onto_other=onto_other, then=then)

    def back(self, gradient: Tensor, maps: Tensor | None, onto: Tensor | None) -> Tensor:
        """Return the gradient with respect to what was read, ``maps`` if needed, added to ``onto`` if given."""
        layer = self._layer
        if maps is None:
            if layer.out_channels < MANY * layer.in_channels:
                return self._flip_and_run(gradient, onto)
            found = self._scatter(gradient)
        elif layer.kernel_size == (1, 1) and self.padding == [0, 0] and layer.groups == 1:
            # Of what was read only every other pixel counted.
            found = torch.zeros_like(maps) if onto is None else onto
            found[:, :, :: self.stride[0], :: self.stride[1]] += self._flip_and_run(gradient, None)
            return found
        else:
            found = torch.ops.aten.convolution_backward(
                gradient, maps, layer.weight, None, self.stride, self.padding, self._dilation,
                False, [0, 0], layer.groups, [True, False, False],
            )[0]  # fmt: skip
        return found if onto is None else onto.add_(found)

    def _flip_and_run(self, gradient: Tensor, onto: Tensor | None) -> Tensor:
        """Return the gradient of a convolution of stride 1, by one with the flipped weights, added to ``onto``."""
        if self._flipped is None:
            self._flipped = _packed(self._layer.weight.flip(2, 3).transpose(0, 1), self._backwards, gradient)
        return _convolve(gradient, self._flipped, None, self._backwards, onto, onto_other=True)

    def _scatter(self, gradient: Tensor) -> Tensor:
        """Return the same by one product of matrices whose rows are then added up, each at its place."""
        layer, reach = self._layer, self.reach
        (n, channels, height, width), (down, across) = gradient.shape, layer.kernel_size
        weights = layer.weight.permute(2, 3, 1, 0).reshape(-1, channels)
        parts = weights @ gradient.permute(0, 2, 3, 1).reshape(-1, channels).T
        parts = parts.reshape(down, across, layer.in_channels, n, height, width)
        found = gradient.new_zeros(layer.in_channels, n, height + reach[0], width + reach[1])
        for row in range(down):
            for column in range(across):
                top, left = row * self._dilation[0], column * self._dilation[1]
                found[:, :, top : top + height, left : left + width] += parts[row, column]
        top, left = self.padding
        bottom, right = found.shape[2] - top, found.shape[3] - left
        return found[:, :, top:bottom, left:right].transpose(0, 1)


_How = tuple[list[int], list[int], list[int], int]
"""Padding, stride, dilation, groups."""


def _convolve(
    maps: Tensor,
    weights: Tensor,
    bias: Tensor | None,
    how: _How,
    other: Tensor | None,
    *,
    onto_other: bool,
    then: str | None = None,
) -> Tensor:
    ops = torch.ops.mkldnn
    if other is None:
        return ops._convolution_pointwise(maps, weights, bias, *how, then or "none", [], "")  # type: ignore[no-any-return]
    how_to_add: tuple[Any, ...] = "add", None, then, [], ""
    if onto_other:
        return ops._convolution_pointwise_.binary(other, maps, weights, bias, *how, *how_to_add)  # type: ignore[no-any-return]
    return ops._convolution_pointwise.binary(maps, other, weights, bias, *how, *how_to_add)  # type: ignore[no-any-return]


def _packed(weights: Tensor, how: _How, maps: Tensor) -> Tensor:
    weights = weights.detach().contiguous(memory_format=torch.channels_last)
    return torch.ops.mkldnn._reorder_convolution_weight(weights, *how, list(maps.shape))  # type: ignore[no-any-return]


def has_zero_border(layer: nn.Conv2d) -> bool:
    """Return whether a convolution has a border of zeros, or none, that is the same on opposite sides."""
    # Where a border of "same" is not, it is not said how it is shared out.
    is_even = layer.padding != "same" or not any(reach % 2 for reach in reach_of(layer))
    return layer.padding_mode == "zeros" and is_even


def reach_of(layer: nn.Conv2d) -> list[int]:
    """Return how many pixels further than its first one a kernel sees, down and across."""
    return [dilation * (size - 1) for size, dilation in zip(layer.kernel_size, layer.dilation, strict=True)]


def padding_of(layer: nn.Conv2d) -> list[int]:
    """Return how many pixels there are in the border of a convolution that `has_zero_border`, at each side."""
    if layer.padding == "same":
        return [reach // 2 for reach in reach_of(layer)]
    return [0, 0] if layer.padding == "valid" else [int(each) for each in layer.padding]
