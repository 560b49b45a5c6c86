"""What is left of a block that is taken out: its input, its final activation, or nothing; and how that is found.

A block's transformation is silenced, and what the block returns then is what is left of it. Where that is nothing, its
parent has to be seen to add the block's input.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import AfterValidator
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils._pytree import tree_map, tree_map_only

from robustprune.errors import PruningError
from robustprune.pruning.calls import Call, called, running_instead, tensors
from robustprune.runtime.randomness import seeded_generator

_LEAF = re.compile(r"(identity|relu|zero)(?: of (\w+(?:\.\w+)*))?")

LAYERS = (nn.modules.conv._ConvNd, nn.Linear)
"""Layers with weights."""


def check_residue(residue: str) -> str:
    """Return a residue if it is one."""
    try:
        _parsed(residue)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"{residue!r} does not say what remains of a block: identity, relu or zero") from error
    return residue


Residue = Annotated[str, AfterValidator(check_residue)]
"""What a removed block leaves: ``identity`` (its input), ``relu`` (its final activation) or ``zero`` (nothing, where
its parent adds the input).

The input is the first argument, or the one named behind: ``identity of 1`` is the second, ``identity of hidden`` that
keyword, ``identity of 0.1`` the second value of a tuple that is the first argument. What a block returns in a tuple,
list or dict is written as in Python: ``('identity', None)``.
"""


class RemovedBlock(nn.Module):
    """The gap a removed block leaves: no parameters, no operations but perhaps the final activation.

    It keeps the place, so that ``layer2.3`` is the same block before and after ``layer2.2`` is gone, and
    rewinding can copy weights by name.
    """

    def __init__(self, residue: Residue = "identity") -> None:
        """Leave what a residue says."""
        super().__init__()
        try:
            self.residue = check_residue(residue)
        except ValueError as error:
            raise PruningError(str(error)) from error
        self._left = _parsed(residue)

    def forward(self, *values: Any, **keywords: Any) -> Any:
        """Pass on what the residue names; what else the block was called with has no use any more."""
        arguments = dict(enumerate(values)) | keywords
        return tree_map_only(Leaf, lambda left: left.of(arguments), self._left)

    def extra_repr(self) -> str:
        """Return the residue, for printing."""
        return self.residue


@dataclass(frozen=True)
class Leaf:
    """A tensor that a residue names: what is left of it, and the way to it among the arguments of a call."""

    what: str
    path: tuple[int | str, ...]

    def given(self, arguments: Any) -> Tensor:
        """Return what it names of the arguments of a call."""
        for part in self.path:
            arguments = arguments[part]
        value: Tensor = arguments
        return value

    def of(self, arguments: Any) -> Tensor:
        """Return what is left of it."""
        value = self.given(arguments)
        return value.relu() if self.what == "relu" else torch.zeros_like(value) if self.what == "zero" else value


def _parsed(residue: str) -> Any:
    """Return a residue with leaves in place of their texts."""
    return tree_map(_leaf, ast.literal_eval(residue) if residue.startswith(("(", "[", "{")) else residue)


def _leaf(text: Any) -> Any:
    if text is None or isinstance(text, (bool, int, float)):
        return text
    match = _LEAF.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return Leaf(match[1], tuple(int(part) if part.isdigit() else part for part in (match[2] or "0").split(".")))


_Places = Mapping[str, tuple[Tensor, Tensor]]
"""Where an argument is, as a residue says it → what was there in the network, and the noise in its place."""


def parts(value: Any, path: tuple[int | str, ...] = ()) -> Iterator[tuple[tuple[int | str, ...], Any]]:
    """Yield nested tuples, lists and dicts and what is in them, with the way there."""
    yield path, value
    if type(value) in (tuple, list, dict):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from parts(each, (*path, key))


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
    for path, leaf in parts(call.arguments):
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.shape in shapes:
            if id(leaf) not in noise:
                noise[id(leaf)] = torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)
            places["" if path == (0,) else f" of {'.'.join(map(str, path))}"] = leaf, noise[id(leaf)]
    if not shapes <= {given.shape for given, _ in places.values()}:
        return None
    arguments = tree_map(lambda leaf: noise.get(id(leaf), leaf), call.arguments)
    try:
        with _silenced(call.module):
            output = called(call.module, arguments)
        left = _left(output, call.arguments, places)
        return check_residue(left if isinstance(left, str) else repr(left))
    except Exception:
        return None  # it cannot bear the silence, or leaves something else


def _left(value: Any, arguments: Mapping[int | str, Any], places: _Places) -> Any:
    """Return what an output, or a part of it, is, as a residue says it."""
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


def _tensor_left(value: Tensor, places: _Places) -> str:
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
    silent: list[Tensor] = [tensor for tensor in module.parameters() if id(tensor) not in computed]
    for name, tensor in module.named_buffers():
        # Normalization without parameters still subtracts the mean that it has learned.
        shifts = any(word in name.rpartition(".")[2] for word in ("mean", "bias"))
        silent += [tensor] if shifts and tensor.is_floating_point() else []
    saved = [(tensor, tensor.detach().clone()) for tensor in silent]
    with ExitStack() as stack:
        for part in module.modules():
            # Torch lets nobody into a script.
            if part is not module and not isinstance(part, torch.jit.ScriptModule):
                stack.callback(part.register_forward_hook(_silence).remove)
        try:
            for tensor, _ in saved:
                tensor.zero_()
            yield
        finally:
            for tensor, value in saved:
                tensor.copy_(value)


def _silence(part: nn.Module, _inputs: Any, output: Any) -> Any:
    """Return zero for what a computed weight is or makes; what else a part returns, with zero for what is no number."""
    if isinstance(part, ParametrizationList) or (isinstance(part, LAYERS) and "weight" not in part._parameters):
        return tree_map_only(Tensor, torch.zeros_like, output)
    # Of layers, and of normalization without parameters, for which silence is 0/0.
    return tree_map_only(Tensor, lambda value: value.nan_to_num(0.0), output)


def is_summed(parent: nn.Module, arguments: Mapping[int | str, Any], call: Call, residue: Residue) -> bool:
    """Return whether a parent adds what a module returns to the module's input, and uses neither otherwise.

    Seen in one of two ways. What reads the sum first gets the input itself where the module returns nothing, through a
    ReLU at most. Or, where only a function reads it, the parent cannot tell a module that returns its input's negative
    from no input and no output: both sums are zero. The call is that of the module, whose residue is ``zero``.
    """

    def after(instead: Callable[[Tensor], Tensor]) -> list[Tensor]:
        return _received(parent, arguments, call.module, residue, instead)

    features, *nothing = after(torch.zeros_like)
    _, *noise = after(_noise)
    if len(nothing) != len(noise):
        return False
    # Past what is handed the output alone, such as stochastic depth, or a module that adds its two inputs.
    start, alone = 0, _noise(features)
    while start < len(noise) and (_equal(nothing[start], noise[start]) or _equal(noise[start], alone)):
        start += 1
    if start == len(noise):
        return False
    if _equal(nothing[start], features) or _equal(nothing[start], features.relu()):
        return True
    nothing = nothing[start:]
    negative = after(torch.neg)[1 + start :]
    neither = after(lambda features: torch.zeros_like(features.zero_()))[1 + start :]
    same = len(negative) == len(neither) and all(map(_equal, negative, neither))
    return same and not all(map(_equal, negative, nothing))


def _noise(features: Tensor) -> Tensor:
    return torch.randn(features.shape, generator=seeded_generator("branch"), dtype=features.dtype)


def _received(
    parent: nn.Module,
    arguments: Mapping[int | str, Any],
    module: nn.Module,
    residue: Residue,
    instead: Callable[[Tensor], Tensor],
) -> list[Tensor]:
    """Run a parent with ``instead`` of a module's features in place of what the module returns.

    Return the features, then all that other modules and the caller received after; they alone where that fails.
    """
    nothing, itself = RemovedBlock(residue), RemovedBlock(residue.replace("zero", "identity"))
    found: list[Tensor] = []

    def forward(*values: Any, **keywords: Any) -> Any:
        (features,) = tensors(itself(*values, **keywords))
        found[:] = [features.clone()]
        returned = instead(features)
        return tree_map_only(Tensor, lambda _: returned, nothing(*values, **keywords))

    def note(_module: nn.Module | None, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if found:
            found.extend(tensor.clone() for tensor in tensors([inputs, keywords]))

    inside = set(module.modules())
    with ExitStack() as stack:
        stack.enter_context(running_instead({module: forward}))
        for other in parent.modules():
            if other not in inside and not isinstance(other, torch.jit.ScriptModule):
                stack.callback(other.register_forward_pre_hook(note, with_kwargs=True).remove)
        try:
            note(None, (called(parent, arguments),), {})
        except Exception:
            return found[:1] or [torch.empty(0)]
    return found or [torch.empty(0)]
