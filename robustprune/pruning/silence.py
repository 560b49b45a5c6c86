"""What a module leaves once its transformation is silent: its input, its final activation, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from robustprune.pruning.calls import Call, called, leaves, mapped, parts, tensors
from robustprune.pruning.residue import Residue, check_residue
from robustprune.runtime.randomness import seeded_generator

LAYERS = (nn.modules.conv._ConvNd, nn.Linear)
"""Layers with weights."""

Places = Mapping[str, tuple[Tensor, Tensor]]
"""Where an argument is, as a residue says it → what was there in the network, and the noise in its place."""


def residue_of(call: Call) -> Residue | None:
    """Return what a module leaves when it is silent, if that is next to nothing; None where more would remain.

    ``zero`` is left by every layer of a chain too; it is a block only where its parent adds its input.
    """
    shapes = {tensor.shape for tensor in tensors(call.output)}
    if call.count != 1 or not shapes:
        return None
    # Noise of unit size, since a network's own activations can be too small to tell identity from nothing.
    generator = seeded_generator("silenced block")
    noise: dict[int, Tensor] = {}
    places: dict[str, tuple[Tensor, Tensor]] = {}
    for path, leaf in leaves(call.arguments):
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.shape in shapes:
            if id(leaf) not in noise:
                noise[id(leaf)] = torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)
            places["" if path == (0,) else f" of {'.'.join(map(str, path))}"] = leaf, noise[id(leaf)]
    if not shapes <= {given.shape for given, _ in places.values()}:
        return None
    arguments = mapped(lambda leaf: noise.get(id(leaf), leaf), call.arguments)
    try:
        with _silenced(call.module):
            output = called(call.module, arguments)
        left = _left(output, call.arguments, places)
        return check_residue(left if isinstance(left, str) else repr(left))
    except Exception:
        return None  # it cannot bear the silence, or leaves something else


def _left(value: Any, arguments: Mapping[int | str, Any], places: Places) -> Any:
    """Return what an output, or a part of it, is, as a residue says it.

    Raises:
        ValueError: It is neither an argument, nor nothing, nor a constant.
    """
    if isinstance(value, Tensor):
        return _tensor_left(value, places)
    if value is None or isinstance(value, bool):
        return value
    if not tensors(value):
        same = [path for path, part in parts(arguments) if type(part) is type(value) and part == value]
        if same:
            return f"identity of {'.'.join(map(str, same[0]))}"
    if type(value) in (tuple, list):
        return type(value)(_left(each, arguments, places) for each in value)
    if type(value) is dict:
        return {key: _left(each, arguments, places) for key, each in value.items()}
    raise ValueError(value)


def _tensor_left(value: Tensor, places: Places) -> str:
    # No absolute tolerance: a few leaky ReLUs in a row leave so little of a negative number that it looks like none.
    for place, (_, noise) in places.items():
        if _equal(value, noise):
            return f"identity{place}"
    for place, (given, noise) in places.items():
        if _equal(value, noise.relu()):
            # What comes from an activation passes through another one unchanged.
            return f"identity{place}" if bool((given >= 0).all()) else f"relu{place}"
    if value.count_nonzero() == 0:
        return next(f"zero{place}" for place, (given, _) in places.items() if given.shape == value.shape)
    raise ValueError(value)


def _equal(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-5, atol=0)


@contextmanager
def _silenced(module: nn.Module) -> Iterator[None]:
    """Let a module's weights, biases and running means be zero, also where weights are computed.

    Computed weights (spectral norm, weight norm, orthogonal, standardized) are not zero where the parameters that they
    are computed from are, but 0/0, or something else: they, or what the layer returns, become zero.
    """
    lists = [part for part in module.modules() if isinstance(part, ParametrizationList)]
    computed = {id(tensor) for part in lists for tensor in part.parameters()}
    # Normalization without parameters still subtracts the mean that it has learned.
    means = [tensor for name, tensor in module.named_buffers() if _shifts(name) and tensor.is_floating_point()]
    silent = [*(tensor for tensor in module.parameters() if id(tensor) not in computed), *means]
    saved = [(tensor, tensor.detach().clone()) for tensor in silent]
    with ExitStack() as stack:
        for part in module.modules():
            if part is not module and (hook := _silencer(part)) is not None:
                stack.callback(part.register_forward_hook(hook).remove)
        try:
            for tensor, _ in saved:
                tensor.zero_()
            yield
        finally:
            for tensor, value in saved:
                tensor.copy_(value)


def _shifts(buffer: str) -> bool:
    return any(word in buffer.rpartition(".")[2] for word in ("mean", "bias"))


def _silencer(part: nn.Module) -> Callable[[nn.Module, Any, Any], Any] | None:
    """Return a hook that makes zero of what a part returns, or of what is no number in it, if one is needed."""
    if isinstance(part, torch.jit.ScriptModule):
        return None  # torch lets nobody in
    if isinstance(part, ParametrizationList) or (isinstance(part, LAYERS) and "weight" not in part._parameters):
        return lambda _part, _inputs, output: mapped(_zero, output)
    # Of layers, and of normalization without parameters, for which silence is 0/0.
    return lambda _part, _inputs, output: mapped(_number, output)


def _zero(value: Any) -> Any:
    return torch.zeros_like(value) if isinstance(value, Tensor) else value


def _number(value: Any) -> Any:
    return value.nan_to_num(0.0) if isinstance(value, Tensor) and value.is_floating_point() else value
