"""Weights from a local file into a network that has been built: checkpoints of torch.save, and safetensors.

Only tensors and plain values are ever read; nothing in a file is executed.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from robustprune.errors import ModelError, ModelWarning
from robustprune.models.adapter import AdaptedNetwork
from robustprune.models.networks import set_weights
from robustprune.registry import missing_package

_WRAPPERS = ("module", "_orig_mod")
"""What DataParallel and torch.compile put anywhere among the names of modules."""

_LEFTOVERS = ("model_preact_hl1.", ".scores", "total_ops", "total_params", "n_averaged")
"""Entries that networks have no place for: RobustBench's (``_safe_load_state_dict`` there), thop's counts, SWA's."""

_LATER = frozenset({"ema", "swa", "average", "averaged", "teacher", "best", "target", "momentum"})
"""Words in the names of copies, after which the weights themselves come; RobustBench's loader takes last over best."""


# What training scripts keep beside their weights: arguments, paths, and figures as numpy's scalars. None runs code.
_PLAIN: list[Any] = [
    argparse.Namespace,
    defaultdict,
    dict,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    np.dtype,
    *(
        getattr(np.dtypes, name)
        for name in ("Float16DType", "Float32DType", "Float64DType", "Int64DType", "Int32DType")
    ),
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]


class _Held(NamedTuple):
    holder: str  # the container it is in
    tensor: Tensor


_Found = dict[str, _Held]


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a file of weights into a network.

    The weights may be nested in dictionaries of any names, and have anything before their names, such as ``module.``,
    ``_orig_mod.``, ``net.`` or this package's own ``network.``: what counts is that every parameter and running
    statistic of the network is there, under one prefix, with its shape. Constants such as a mean that the network knows
    by itself may be missing. Nothing in the file is executed.

    Args:
        network: Changed in place. For one from another package, the file has that package's names or this one's.
        path: A file written by ``torch.save`` or safetensors: a state dict, bare or within a checkpoint.

    Raises:
        ModelError: No such file, a file with more than plain tensors, weights that do not fit or are not finite.

    Warns:
        ModelWarning: Several sets of weights in the file fit, or weights beside those that fit are left out.
    """
    path = Path(path)
    found = _flatten(_read_tensors(path))
    if not found:
        raise ModelError(f"{path} holds no named weights")
    # With what stands before it first, as this package's own file has the constants of normalization, too.
    targets = [network, *([network.network] if isinstance(network, AdaptedNetwork) else [])]
    looked = [(target, _candidates(found, target)) for target in targets]
    for target, candidates in looked:
        fitting = [each for each in candidates if not each.problem]
        if fitting:
            fitting.sort(key=lambda each: each.is_a_copy)
            _refuse_not_finite(fitting[0], path)
            _say_what_is_left(fitting, found, path)
            set_weights(target, fitting[0].weights, strict=False)
            return
    nearest = max(
        (each for _, candidates in looked for each in candidates), key=lambda each: len(each.names), default=None
    )
    wanted = [name for name, _ in targets[-1].named_parameters()]
    raise ModelError(
        f"the weights in {path} do not fit this network: {'no name agrees' if nearest is None else nearest.problem}; "
        f"the file has {_listed(list(found))}, the network wants {_listed(wanted)}"
    )


@dataclass(frozen=True)
class _Candidate:
    """What a file has under one prefix, which ends in a dot or is empty.

    Attributes:
        prefix: Before each of the names.
        names: Of the file.
        weights: By the network's names.
        beside: Further names in the dictionaries that hold these.
        problem: Why it does not fit; empty if it does.
    """

    prefix: str
    names: frozenset[str]
    weights: dict[str, Tensor]
    beside: tuple[str, ...]
    problem: str = ""

    @property
    def is_a_copy(self) -> bool:
        return not _LATER.isdisjoint(re.split(r"[._-]", self.prefix.lower()))

    @property
    def title(self) -> str:
        return self.prefix.rstrip(".") or "the one without a prefix"


def _candidates(found: _Found, target: nn.Module) -> list[_Candidate]:
    """Return what the file has under each prefix that may be all of the network, in order, else the nearest."""
    own = target.state_dict()
    wanted = _unwrapped(own)
    parameters = {name for name, _ in target.named_parameters()}
    needed = [name for name in own if name in parameters or "running_" in name]
    votes: Counter[str] = Counter()
    for name in found:
        cuts = [0, *(place + 1 for place, letter in enumerate(name) if letter == ".")]
        votes.update(name[:cut] for cut in cuts if name[cut:] in wanted)
    prefixes = [prefix for prefix, count in votes.items() if count >= len(needed)]
    gathered = [_gather(prefix, found, wanted) for prefix in prefixes or [each for each, _ in votes.most_common(1)]]
    whole = [each for each in gathered if all(name in each.weights for name in needed)]
    taken = frozenset().union(*(each.names for each in whole))
    return [replace(each, problem=_problem(each, found, taken, needed, own)) for each in gathered]


def _gather(prefix: str, found: _Found, wanted: Mapping[str, str]) -> _Candidate:
    names = [name for name in found if name.startswith(prefix) and name[len(prefix) :] in wanted]
    holders = {found[name].holder for name in names}
    beside = [
        name
        for name in found
        if found[name].holder in holders and name not in names and not any(part in f".{name}" for part in _LEFTOVERS)
    ]
    weights = {wanted[name[len(prefix) :]]: found[name].tensor for name in names}
    return _Candidate(prefix, frozenset(names), weights, tuple(beside))


def _problem(
    candidate: _Candidate, found: _Found, taken: frozenset[str], needed: Sequence[str], own: Mapping[str, Tensor]
) -> str:
    weights = candidate.weights
    beside = [name for name in candidate.beside if name not in taken]
    # Beside more than the network itself has, it is a part of another, such as its head.
    is_a_part = sum(found[name].tensor.numel() for name in beside) > sum(value.numel() for value in weights.values())
    problems = {
        "lacks": [name for name in needed if name not in weights],
        "has beyond it": [name for name in beside if is_a_part or name.startswith(candidate.prefix)],
        "has in another shape": [
            f"{name} {tuple(weights[name].shape)} in place of {tuple(value.shape)}"
            for name, value in own.items()
            if name in weights and weights[name].shape != value.shape
        ],
        "has without values, on the meta device,": [name for name, value in weights.items() if value.is_meta],
        "has as no floating-point numbers": [
            name for name in needed if name in weights and not weights[name].is_floating_point()
        ],
    }
    return next((f"the file {what} {_listed(names)}" for what, names in problems.items() if names), "")


def _refuse_not_finite(candidate: _Candidate, path: Path) -> None:
    numbers = {name: value for name, value in candidate.weights.items() if value.is_floating_point()}
    broken = [name for name, value in numbers.items() if not bool(value.isfinite().all())]
    if broken:
        raise ModelError(
            f"the weights in {path} are not finite: {len(broken)} of {len(numbers)} tensors hold NaN or infinity, "
            f"such as {_listed(broken)}; the training that wrote them has diverged, so take an earlier file of it"
        )


def _say_what_is_left(fitting: Sequence[_Candidate], found: _Found, path: Path) -> None:
    """Give one warning where another copy of the network, or other weights, are left out."""
    chosen, *others = fitting
    different = [each for each in others if not _are_equal(each.weights, chosen.weights)]
    said = []
    if different:
        said.append(
            f"it holds {len(different) + 1} networks that fit and differ, and {chosen.title} is taken rather than "
            f"{' or '.join(each.title for each in different)} (averaged copies and the best of several epochs come "
            "second; to have another, save it alone)"
        )
    taken = frozenset().union(*(each.names for each in fitting))
    is_weight = (".weight", ".bias")
    rest = [name for name in found if name not in taken and (name in chosen.beside or name.endswith(is_weight))]
    if rest:
        said.append(f"left out of it: {_listed(rest)}")
    if said:
        warnings.warn(f"weights in {path}: {'; '.join(said)}", ModelWarning, stacklevel=3)


def _are_equal(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(value, others[name]) for name, value in some.items() if name in others)


def _flatten(content: Any) -> _Found:
    """Return the tensors of nested containers by their names with all that they are nested in, less the wrappers."""
    found = {name: _Held(holder, value) for holder, name, value in _walk(content, "")}
    return {short: found[name] for short, name in _unwrapped(found).items()}


def _walk(content: Any, place: str, above: tuple[int, ...] = ()) -> Iterator[tuple[str, str, Tensor]]:
    if id(content) in above:  # it holds itself
        return
    inside = content.items() if isinstance(content, Mapping) else enumerate(content)
    for key, value in inside:
        name = f"{place}{key}"
        if isinstance(value, Tensor):
            yield place, name, value if value.layout == torch.strided else value.to_dense()
        elif isinstance(value, (Mapping, list, tuple)):
            yield from _walk(value, f"{name}.", (*above, id(content)))


def _unwrapped(names: Collection[str]) -> dict[str, str]:
    """Return names without what wrappers put among them → the names; as they are where two would become one."""
    short = {".".join(part for part in name.split(".") if part not in _WRAPPERS): name for name in names}
    return short if len(short) == len(names) else {name: name for name in names}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" …" if names[3:] else "")


def _read_tensors(path: Path) -> Mapping[Any, Any] | list[Any] | tuple[Any, ...]:
    """Return the containers of tensors in a file.

    Raises:
        ModelError: No such file, a ticket of this package, a file with more than plain values, or none of containers.
        MissingDependencyError: A safetensors file, and safetensors is not installed.
    """
    if not path.is_file():
        raise ModelError(f"there is no file {path} with weights")
    content = _read_safetensors(path) if _is_safetensors(path) else _read_pickled(path)
    kind = content.get("format") if isinstance(content, Mapping) else None
    if isinstance(kind, str) and kind.startswith("robustprune-"):
        raise ModelError(
            f"{path} is a file of this package, a {kind.removeprefix('robustprune-')}, which knows its network; "
            f"name it in its place: --model {path} (load_ticket in Python)"
        )
    nests = isinstance(content, (list, tuple)) and any(isinstance(each, Mapping) for each in content)
    if not (isinstance(content, Mapping) or nests):
        raise ModelError(f"{path} holds a {type(content).__name__}, not named weights")
    return content


def _read_pickled(path: Path) -> Any:
    try:
        with safe_globals(_PLAIN):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen unrelated types here
        raise ModelError(
            f"{path} cannot be read as weights: it is damaged, or holds more than plain tensors and containers"
            f"{_named(path)}, which could run code and is therefore refused; save the network's state_dict() alone"
        ) from error


def _named(path: Path) -> str:
    try:
        names = get_unsafe_globals_in_checkpoint(path)
    except Exception:  # it is no such file at all
        return ""
    return f" ({', '.join(sorted(names)[:3])})" if names else ""


def _is_safetensors(path: Path) -> bool:
    """Return whether a file starts as safetensors do: the length of its header, little-endian, and a JSON object."""
    with path.open("rb") as stream:
        start = stream.read(9)
    return path.suffix == ".safetensors" or (start[8:] == b"{" and int.from_bytes(start[:8], "little") < 1 << 27)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise missing_package(f"reading {path}", "safetensors") from error
    try:
        return load_file(path)
    except Exception as error:  # its errors are of a type of its own, and of the system
        raise ModelError(f"{path} cannot be read as safetensors ({error}); fetch it again") from error
