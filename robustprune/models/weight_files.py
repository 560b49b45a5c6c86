"""Weights from a local file into a network that has been built: checkpoints of torch.save, and safetensors.

Only tensors and plain values are ever read; nothing in a file is executed.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

_WEIGHTS = (".weight", ".bias")

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


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a file of weights, written by ``torch.save`` or safetensors, into a network; nothing in it is executed.

    The weights may be nested in dictionaries of any names, and have anything before their names, such as ``module.``,
    ``_orig_mod.``, ``net.`` or this package's own ``network.``: what counts is that every parameter and running
    statistic of the network is there, under one prefix, with its shape. Constants such as a mean that the network knows
    by itself may be missing. For one from another package, the file has that package's names or this one's.

    Args:
        network: Any module; its weights are replaced, in place.
        path: Read as safetensors if it ends so, else by ``torch.load`` with ``weights_only=True``.

    Raises:
        ModelError: No such file, a file with more than plain tensors, weights that do not fit or are not finite.

    Warns:
        ModelWarning: Several sets of weights in the file fit, or weights beside those that fit are left out.
    """
    path = Path(path)
    tensors = dict(_walk(_read_tensors(path), ""))
    found = {short: tensors[name] for short, name in _unwrapped(tensors).items()}
    if not found:
        raise ModelError(f"{path} holds no named weights")
    nearest = ""
    # With what stands before it first, as this package's own file has the constants of normalization, too.
    for target in [network, *([network.network] if isinstance(network, AdaptedNetwork) else [])]:
        candidates = _candidates(found, target)
        problems = [_problem(each, candidates, found, target) for each in candidates]
        fitting = [each for each, problem in zip(candidates, problems, strict=True) if not problem]
        if fitting:
            fitting.sort(key=_is_a_copy)
            _refuse_not_finite(fitting[0], path)
            _say_what_is_left(fitting, found, path)
            set_weights(target, fitting[0].weights, strict=False)
            return
        nearest = next(iter(problems), nearest)
    raise ModelError(
        f"the weights in {path} do not fit this network: {nearest or 'no name agrees'}; the file has "
        f"{_listed(list(found))}, the network wants {_listed([name for name, _ in target.named_parameters()])}"
    )


@dataclass(frozen=True)
class _Candidate:
    """What a file has under one prefix, which ends in a dot or is empty: its names, and weights by the network's."""

    prefix: str
    names: frozenset[str]
    weights: dict[str, Tensor]


def _needed(target: nn.Module) -> list[str]:
    """Return the names of a network's parameters and running statistics."""
    parameters = {name for name, _ in target.named_parameters()}
    return [name for name in target.state_dict() if name in parameters or "running_" in name]


def _candidates(found: Mapping[str, Tensor], target: nn.Module) -> list[_Candidate]:
    """Return what the file has under each prefix that may be all of the network, in order, else the nearest."""
    wanted = _unwrapped(target.state_dict())
    names: dict[str, list[str]] = {}
    for name in found:
        for cut in (0, *(place + 1 for place, letter in enumerate(name) if letter == ".")):
            if name[cut:] in wanted:
                names.setdefault(name[:cut], []).append(name)
    candidates = [
        _Candidate(prefix, frozenset(own), {wanted[name.removeprefix(prefix)]: found[name] for name in own})
        for prefix, own in names.items()
    ]
    whole = [each for each in candidates if len(each.names) >= len(_needed(target))]
    return whole or sorted(candidates, key=lambda each: -len(each.names))[:1]


def _problem(
    candidate: _Candidate, others: Sequence[_Candidate], found: Mapping[str, Tensor], target: nn.Module
) -> str:
    """Return why a candidate does not fit a network; empty if it does."""
    weights, needed = candidate.weights, _needed(target)
    rest = _rest(others, found)
    # Beside more than the network itself has, it is a part of another, such as its head.
    beside = sum(found[name].numel() for name in rest if name.endswith(_WEIGHTS))
    is_a_part = beside > sum(value.numel() for value in weights.values())
    problems = {
        "lacks": [name for name in needed if name not in weights],
        "has beyond it": [
            name for name in rest if name.startswith(candidate.prefix) or (is_a_part and name.endswith(_WEIGHTS))
        ],
        "has in another shape": [
            f"{name} {tuple(weights[name].shape)} in place of {tuple(value.shape)}"
            for name, value in target.state_dict().items()
            if name in weights and weights[name].shape != value.shape
        ],
        "has without values, on the meta device,": [name for name, value in weights.items() if value.is_meta],
        "has as no floating-point numbers": [
            name for name in needed if name in weights and not weights[name].is_floating_point()
        ],
    }
    return next((f"the file {what} {_listed(names)}" for what, names in problems.items() if names), "")


def _rest(candidates: Sequence[_Candidate], found: Mapping[str, Tensor]) -> list[str]:
    """Return the names of a file that are in none of its candidates."""
    taken = frozenset().union(*(each.names for each in candidates))
    return [name for name in found if name not in taken and not any(part in f".{name}" for part in _LEFTOVERS)]


def _is_a_copy(candidate: _Candidate) -> bool:
    return not _LATER.isdisjoint(re.split(r"[._-]", candidate.prefix.lower()))


def _refuse_not_finite(candidate: _Candidate, path: Path) -> None:
    numbers = {name: value for name, value in candidate.weights.items() if value.is_floating_point()}
    broken = [name for name, value in numbers.items() if not bool(value.isfinite().all())]
    if broken:
        raise ModelError(
            f"the weights in {path} are not finite: {len(broken)} of {len(numbers)} tensors hold NaN or infinity, "
            f"such as {_listed(broken)}; the training that wrote them has diverged, so take an earlier file of it"
        )


def _say_what_is_left(fitting: Sequence[_Candidate], found: Mapping[str, Tensor], path: Path) -> None:
    """Warn where another copy of the network, or other weights, are left out."""
    chosen, *others = fitting
    left = [
        f"the network under {each.prefix!r}"
        for each in others
        if not all(torch.equal(value, each.weights.get(name, value)) for name, value in chosen.weights.items())
    ]
    left += [name for name in _rest(fitting, found) if name.endswith(_WEIGHTS)]
    if left:
        warnings.warn(
            f"weights in {path}: those under {chosen.prefix!r} are taken (averaged copies and the best of several "
            f"epochs come second), and left out of it: {_listed(left)}; to have others, save them alone",
            ModelWarning,
            stacklevel=3,
        )


def _walk(content: Any, place: str, above: tuple[int, ...] = ()) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested containers by their names with all that they are nested in."""
    if id(content) in above:  # it holds itself
        return
    for key, value in content.items() if isinstance(content, Mapping) else enumerate(content):
        if isinstance(value, Tensor):
            yield f"{place}{key}", value if value.layout == torch.strided else value.to_dense()
        elif isinstance(value, (Mapping, list, tuple)):
            yield from _walk(value, f"{place}{key}.", (*above, id(content)))


def _unwrapped(names: Collection[str]) -> dict[str, str]:
    """Return names without what wrappers put among them → the names; as they are where two would become one."""
    short = {".".join(part for part in name.split(".") if part not in _WRAPPERS): name for name in names}
    return short if len(short) == len(names) else {name: name for name in names}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" …" if names[3:] else "")


def _read_tensors(path: Path) -> Mapping[Any, Any] | list[Any] | tuple[Any, ...]:
    """Return the containers of tensors in a file."""
    if not path.is_file():
        raise ModelError(f"there is no file {path} with weights")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)
    kind = content.get("format") if isinstance(content, Mapping) else None
    if isinstance(kind, str) and kind.startswith("robustprune-"):
        raise ModelError(
            f"{path} is a file of this package, a {kind.removeprefix('robustprune-')}, which knows its network; "
            f"name it in its place: --model {path} (load_ticket in Python)"
        )
    if not isinstance(content, (Mapping, list, tuple)):
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


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise missing_package(f"reading {path}", "safetensors") from error
    try:
        return load_file(path)
    except Exception as error:  # its errors are of a type of its own, and of the system
        raise ModelError(f"{path} cannot be read as safetensors ({error}); fetch it again") from error
