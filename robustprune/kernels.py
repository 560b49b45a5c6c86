"""Convolutions whose weight gradient overruns memory in oneDNN, computed by kernels that do not.

For channels-last maps, oneDNN's weight gradient of a strided 1×1 convolution first gathers the pixels that count into a
workspace, and steps through it by the width of a vector where it should step by the number of channels (oneDNN#6035).
With fewer channels than that, 8 on processors with AVX2 and 16 with AVX-512, it writes past the end: the process dies
of a corrupted heap, hangs, or goes on with wrong gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

WIDEST_VECTOR = 16
"""Numbers of single precision in a vector of the widest processor: from so many channels on, the kernel is sound."""


class SoundGradients(TorchFunctionMode):
    """A context for forward passes whose weights are differentiated.

    A 1×1 convolution of stride s is one of stride 1 over every s-th pixel. That is how it is computed here, on every
    processor alike, where it has few channels and its weights want a gradient. The backward pass belongs into the
    context too where it may run forward passes again, as checkpoints do.
    """

    def __torch_function__(
        self, function: Any, _types: Any, arguments: Sequence[Any] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        """Run a function of torch, a convolution in its sound form."""
        if function is torch.conv2d:
            return _convolve(*arguments, **(keywords or {}))
        return function(*arguments, **(keywords or {}))


def _convolve(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Return what ``torch.conv2d`` does; the arguments are named as there."""
    rows, columns = (stride, stride) if isinstance(stride, int) else (stride[0], stride[-1])
    if (
        (rows > 1 or columns > 1)
        and weight.shape[1] < WIDEST_VECTOR
        and weight.shape[2:] == (1, 1)
        and padding in (0, (0, 0), [0, 0], (0,), [0], "valid")
        and weight.requires_grad
        and weight.device.type == "cpu"
    ):
        input, stride = input[..., ::rows, ::columns], 1
    return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
