"""Convolutions whose weight gradient overruns memory in oneDNN, computed by kernels that do not.

For channels-last maps, oneDNN's weight gradient of a strided 1×1 convolution first gathers the pixels that count into a
workspace, and steps through it by the width of a vector where it should step by the number of channels (oneDNN#6035).
With fewer channels than that, 8 on processors with AVX2 and 16 with AVX-512, it writes past the end: the process dies
of a corrupted heap, hangs, or goes on with wrong gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

WIDEST_VECTOR = 16
"""Numbers of single precision in a vector of the widest processor: from so many channels on, the kernel is sound."""

_aten = torch.ops.aten
_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation")
_CONVOLUTIONS: dict[Any, tuple[str, ...]] = {
    **dict.fromkeys((torch.conv2d, _aten.conv2d, _aten.conv2d.default, _aten.conv2d.padding), (*_ARGUMENTS, "groups")),
    **dict.fromkeys(
        (torch.convolution, torch._convolution, _aten.convolution, _aten.convolution.default),
        (*_ARGUMENTS, "transposed", "output_padding", "groups"),
    ),
}
"""Functions that convolve maps, as code, exported programs and graphs call them → the names of their arguments."""


class SoundGradients(TorchFunctionMode):
    """A context for forward passes whose weights are differentiated.

    A 1×1 convolution of stride s is one of stride 1 over every s-th pixel. That is how it is computed here, on every
    processor alike, where it has few channels and its weights want a gradient. The backward pass belongs into the
    context too where it may run forward passes again, as checkpoints do. Functions within TorchScript are not seen:
    see :func:`sound_gradients`.
    """

    def __torch_function__(
        self, function: Any, _types: Any, arguments: Sequence[Any] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        """Run a function of torch, a convolution in its sound form."""
        names = _CONVOLUTIONS.get(function)
        if names is not None:
            return _convolve(function, names, arguments, keywords or {})
        return function(*arguments, **(keywords or {}))


@contextmanager
def sound_gradients(network: nn.Module) -> Iterator[None]:
    """Let the weights of a network, of whatever kind, be differentiated: forward and backward pass belong in here.

    Where TorchScript hides a 1×1 convolution of few channels, no convolution is left to oneDNN, which is slower.
    """
    own = torch.backends.mkldnn.enabled
    scripts = [module for module in network.modules() if isinstance(module, torch.jit.ScriptModule)]
    hidden = [weight for script in scripts for weight in script.parameters()]
    try:
        if any(weight.shape[2:] == (1, 1) and weight.shape[1] < WIDEST_VECTOR for weight in hidden):
            torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
        with SoundGradients():
            yield
    finally:
        torch.backends.mkldnn.enabled = own


def _convolve(
    function: Callable[..., Tensor], names: Sequence[str], arguments: Sequence[Any], keywords: dict[str, Any]
) -> Tensor:
    """Return what a convolution does."""
    given = {"bias": None, "stride": (1, 1), "padding": (0, 0)} | dict(zip(names, arguments, strict=False)) | keywords
    weight, stride, padding = given["weight"], given["stride"], given["padding"]
    rows, columns = (stride, stride) if isinstance(stride, int) else (stride[0], stride[-1])
    if (
        (rows > 1 or columns > 1)
        and weight.shape[1] < WIDEST_VECTOR
        and weight.shape[2:] == (1, 1)
        and (padding == "valid" or padding == 0 or (not isinstance(padding, str | int) and not any(padding)))
        and weight.requires_grad
        and weight.device.type == "cpu"
        and not given.get("transposed", False)
    ):
        changed = {"input": given["input"][..., ::rows, ::columns], "stride": [1, 1]}
        rest = arguments[len(names) :]  # of torch._convolution: which libraries to use
        if not rest:
            return function(**{**given, **changed})
        return function(*({**given, **changed}[name] for name in names), *rest)
    return function(*arguments, **keywords)
