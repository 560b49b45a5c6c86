"""The residual branches within a block: attention and MLP of a transformer's, found by what they do.

A branch reads the features x that pass by it and is added to them: x + Attn(LN(x)). It is found by trial, on a copy of
the block with random weights. One part of the block after the other returns zeros, and every part that is then given
zeros hands them on: attention, layer scale, a second linear layer. Where the next part that is given anything else
gets x itself, or the block returns it, those parts together are a branch, and without them x is left. So the
normalization that only the branch reads goes with it, before the attention or behind it, and no list of class names is
kept. Parts are the block's own children.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from robustprune.models import copy_network
from robustprune.models.networks import plain_attention
from robustprune.pruning.calls import Call, called, copied, running_instead, tensors
from robustprune.pruning.residue import LAYERS, RemovedBlock, Residue, check_residue, parts
from robustprune.runtime.randomness import seeded_generator

_WEIGHTED = (*LAYERS, nn.MultiheadAttention)
_FUSED = {"scaled_dot_product_attention", "multi_head_attention_forward"}
_PRODUCTS = {"matmul", "__matmul__", "bmm", "baddbmm", "einsum"}
_SPREAD = 0.2  # of random weights: enough to tell every layer from none


@dataclass(frozen=True)
class Branch:
    """A residual branch of a block.

    Attributes:
        removed: The modules that make it, by name, in order of execution → what remains of each.
        main: The one of them that holds most weights, after which it is called.
        attends: Whether there is attention in it: a softmax and products, or torch's own.
        stream: The module that is given the features before the branch, and the one that is given them after it, or the
            block where it returns them; None of a block that is one branch.
    """

    removed: dict[str, Residue]
    main: str
    attends: bool
    stream: tuple[str, str] | None


def branches_within(blocks: Sequence[tuple[Call, Residue | None]], *, attention: bool) -> list[tuple[str, Branch]]:
    """Return the branches with attention, or the MLPs beside such, of blocks in order, each with its block's name.

    Blocks are given by a call and what they leave. One that its parent adds is a branch itself. An MLP is beside
    attention in blocks of a class that has such, or that stand beside a block of attention alone under one parent.
    """
    found = [
        (call, [_itself(call, residue)] if "zero" in (residue or "") else find_branches(call))
        for call, residue in blocks
    ]
    alone = [(call, own[0].attends) for call, own in found if len(own) == 1 and not _has_gap(call.module)]
    parents = {_parent(call) for call, attends in alone if attends}
    kinds = {type(call.module) for call, own in found if any(branch.attends for branch in own)}
    kinds |= {type(call.module) for call, attends in alone if not attends and _parent(call) in parents}
    return [
        (call.name, branch)
        for call, own in found
        for branch in own
        if branch.attends == attention and type(call.module) in kinds
    ]


def _itself(call: Call, residue: Residue | None) -> Branch:
    functions = {name for *_, name in _Seen(call.module, call.arguments).functions}
    return Branch({call.name: residue or ""}, call.name, _is_attention(functions), None)


def _has_gap(module: nn.Module) -> bool:
    return any(isinstance(part, RemovedBlock) for part in module.modules())


def _parent(call: Call) -> str:
    return call.name.rpartition(".")[0]


def find_branches(call: Call) -> list[Branch]:
    """Return the branches of the block that was called, in order of execution; none where it is not made of such."""
    block = copy_network(call.module)
    generator = seeded_generator("branches")
    for parameter in block.parameters():
        if parameter.is_floating_point():
            parameter.copy_(_SPREAD * torch.randn(parameter.shape, generator=generator).to(parameter))
    arguments = _with_noise(call, generator)
    try:
        with plain_attention():
            return list(_branches(block, call.name, _Seen(block, arguments)))
    except Exception:
        return []  # it does not bear other numbers


def _with_noise(call: Call, generator: torch.Generator) -> dict[int | str, Any]:
    """Return what a block was called with, with noise in place of features."""
    shapes = {tensor.shape for tensor in tensors(call.output)}

    def other(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point() or leaf.shape not in shapes:
            return leaf
        return torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)

    arguments: dict[int | str, Any] = tree_map(other, copied(call.arguments))
    return arguments


class _Seen(TorchFunctionMode):
    """One run of a block: its children's calls in order, and which functions of attention ran in or behind each.

    Attributes:
        calls: The calls, one for each child.
        functions: How many children had begun when a function ran, whether it ran in the last of them, and its name.
    """

    def __init__(self, block: nn.Module, arguments: dict[int | str, Any]) -> None:
        super().__init__()
        self.block, self.arguments = block, arguments
        self.calls: list[Call] = []
        self.functions: list[tuple[int, bool, str]] = []
        self.inside = False
        handles = []
        for name, child in block.named_children():
            handles.append(child.register_forward_pre_hook(self._begin(name), with_kwargs=True))
            handles.append(child.register_forward_hook(self._end))
        try:
            with plain_attention(), torch.no_grad(), self:
                called(block, arguments)
        finally:
            for handle in handles:
                handle.remove()

    def _begin(self, name: str) -> Any:
        def begin(module: nn.Module, values: Any, keywords: dict[str, Any]) -> None:
            arguments = copied(dict(enumerate(values)) | keywords)
            self.calls.append(Call(name, module, arguments, tensors([values, keywords])))
            self.inside = True

        return begin

    def _end(self, module: nn.Module, _values: Any, output: Any) -> None:
        next(call for call in reversed(self.calls) if call.module is module).output = copied(output)
        self.inside = False

    def __torch_function__(self, function: Any, types: Any, values: Any = (), keywords: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if name in _FUSED or name in _PRODUCTS or name == "softmax":
            self.functions.append((len(self.calls), self.inside, name))
        return function(*values, **(keywords or {}))


def _is_attention(functions: set[str]) -> bool:
    return bool(functions & _FUSED) or ("softmax" in functions and bool(functions & _PRODUCTS))


def _branches(block: nn.Module, name: str, seen: _Seen) -> Iterator[Branch]:
    runs = Counter(call.module for call in seen.calls)
    taken = 0
    for first in range(len(seen.calls)):
        if first < taken:
            continue
        found = _without(block, seen, first)
        if found is None:
            continue
        gone, after = found
        functions = {function for place, _, function in seen.functions if first < place <= after}
        layers = {call.name: _layer_weights(call.module) for call in gone}
        # A child that runs more than once cannot go for one of its calls; what stands in place of a branch is none.
        may_go = all(runs[call.module] == 1 and not isinstance(call.module, RemovedBlock) for call in gone)
        if any(layers.values()) and may_go and not _parallel(gone, seen):
            yield Branch(
                removed={
                    f"{name}.{call.name}": _residue(call, "identity" if place else "zero")
                    for place, call in enumerate(gone)
                },
                main=f"{name}.{max(layers, key=lambda each: layers[each])}",
                attends=_is_attention(functions),
                stream=(
                    f"{name}.{seen.calls[first].name}",
                    f"{name}.{seen.calls[after].name}" if after < len(seen.calls) else name,
                ),
            )
            taken = after


def _without(block: nn.Module, seen: _Seen, first: int) -> tuple[list[Call], int] | None:
    """Let a child return zeros, and those that are given zeros hand them on.

    Return them, and the place of the next one that is given the features that the first was given; None where it is
    given anything else.
    """
    stream = _features(seen.calls[first].arguments)
    gone = [seen.calls[first]]
    after: list[tuple[int, Tensor | None]] = []
    places = count()

    def instead(module: nn.Module) -> Any:
        forward = module.forward

        def run(*values: Any, **keywords: Any) -> Any:
            given, place = _features(dict(enumerate(values)) | keywords), next(places)
            call = seen.calls[place]
            if place == first:
                return RemovedBlock(_residue(call, "zero"))(*values, **keywords)
            if place > first and not after:
                if given is not None and not given.any():
                    if next(call.module.parameters(), None) is None:
                        return forward(*values, **keywords)
                    gone.append(call)
                    return RemovedBlock(_residue(call, "identity"))(*values, **keywords)
                if not _equal(given, _features(call.arguments)):  # else it is not reached by what was silenced
                    after.append((place, None if given is None else given.clone()))
            return forward(*values, **keywords)

        return run

    try:
        with running_instead({module: instead(module) for module in {call.module for call in seen.calls}}):
            output = called(block, seen.arguments)
    except Exception:
        return None  # what it was given does not fit
    place, features = after[0] if after else (len(seen.calls), tensors(output)[0])
    return (gone, place) if _equal(features, stream) else None


def _equal(found: Tensor | None, expected: Tensor | None) -> bool:
    if found is None or expected is None or found.shape != expected.shape:
        return False
    return torch.allclose(found, expected, rtol=1e-5, atol=0)


def _features(arguments: dict[int | str, Any]) -> Tensor | None:
    return next((leaf for _, leaf in parts(arguments) if isinstance(leaf, Tensor) and leaf.is_floating_point()), None)


def _residue(call: Call, what: str) -> Residue:
    """Return what is left of a child that returns ``zero`` or its input where it returned features."""
    first = _features(call.arguments)
    path = next(path for path, leaf in parts(call.arguments) if leaf is first)
    place = "" if path == (0,) else f" of {'.'.join(map(str, path))}"
    features = call.features

    def left(value: Any) -> Any:
        return f"{what}{place}" if value is features else None if isinstance(value, Tensor) else value

    found = tree_map(left, call.output)
    return check_residue(found if isinstance(found, str) else repr(found))


def _layer_weights(module: nn.Module) -> int:
    return sum(
        parameter.numel() for part in module.modules() if isinstance(part, _WEIGHTED) for parameter in part.parameters()
    )


def _parallel(gone: Sequence[Call], seen: _Seen) -> bool:
    """Return whether a child with attention is one of several that are given the same, as beside an MLP in parallel."""
    for call in gone:
        place = seen.calls.index(call) + 1
        beside = [other for other in gone if other is not call and other.given[:1] and other.given[0] is call.given[0]]
        if beside and _is_attention({name for began, inside, name in seen.functions if inside and began == place}):
            return True
    return False
