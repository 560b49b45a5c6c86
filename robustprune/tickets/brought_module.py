"""Tickets of a module of the user's hold no code: whoever opens one brings the module, and what fits is found here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from robustprune.errors import ModelError, TicketError
from robustprune.models import Architecture, network_name
from robustprune.models.own_module import own_copy, prepared
from robustprune.models.user_file import build_from_file, split_name
from robustprune.pruning.residue import RemovedBlock
from robustprune.tickets.header import TicketHeader

_SHOWN = 3


def bring_module(
    header: TicketHeader, weights: Any, path: Path, into: nn.Module | None, code: str | Path | None
) -> nn.Module | None:
    """Return a copy of the module that a ticket's weights are filled into, if it fits; None for a network with a name.

    Raises:
        TicketError: There is none, or it is built otherwise than the one that the ticket was made of, or fails.
    """
    if not header.architecture.is_module:
        if into is not None:
            raise TicketError(f"{path} is a ticket of {header.architecture.name}, which has a name; leave out into=…")
        return None
    own = header.architecture.called
    if into is not None and code is not None:
        raise TicketError(
            f"give the module of {path} once: by into={own}(…) or by the file that defines it, not by both"
        )
    if into is None and code is None:
        raise TicketError(
            f"{path} is a ticket of a module of your own, {own}, and holds its weights, never its code; hand over such "
            f"a module, load_ticket(path, into={own}(…)), or name the Python file that defines it: --model-code FILE.py"
        )
    try:
        module = own_copy(_built(header.architecture, str(code)) if into is None else into)
        if problems := list(_misfits(module, weights, header)):
            raise TicketError(
                f"{path} is a ticket of another network than this {network_name(module)}, which {'; '.join(problems)}; "
                f"hand over one that is built just as the {own} that the ticket was made of"
            )
        return prepared(module, header.architecture)
    except ModelError as error:
        raise TicketError(f"the network of {path} cannot be built: {error}") from error


def is_cut(network: nn.Module, weights: Mapping[str, Any], header: TicketHeader) -> bool:
    """Return whether a network lacks all that a plan removes already, as one does that was cut out in this process."""
    modules = dict(network.named_modules())
    is_alike = _forms(network.state_dict()) == _forms(weights)
    return is_alike and all(isinstance(modules.get(name), RemovedBlock) for name in header.plan.gone)


def with_code(architecture: Architecture, path: Path, code: str | Path | None) -> Architecture:
    """Return the architecture of a ticket by which its network is built: that of a ``file:`` network in that file."""
    if not architecture.name.startswith("file:"):
        return architecture
    own_path, attribute = split_name(architecture.name)
    if code is None:
        raise TicketError(
            f"the network of {path} is {attribute} in {own_path.name}; a ticket never runs code by itself, so "
            f"name that file again: --model-code {own_path.name}"
        )
    file, name = split_code(str(code))
    return architecture.model_copy(update={"name": f"file:{file}:{name or attribute}"})


def split_code(text: str) -> tuple[Path, str | None]:
    """Split ``FILE.py`` or ``FILE.py:NAME`` into the path and the name within the file."""
    file, _, name = text.rpartition(":")
    return (Path(file), name) if file and name.isidentifier() and not Path(text).is_file() else (Path(text), None)


def _built(architecture: Architecture, code: str) -> nn.Module:
    """Return the module that a Python file of the user's defines under the ticket's name for it, or under another."""
    file, name = split_code(code)
    own = architecture.called
    if name is None and not own.isidentifier():  # or a ticket could name another file
        raise TicketError(f"the ticket does not say what its network is called; name it: --model-code {file}:NAME")
    return build_from_file(architecture.model_copy(update={"name": f"file:{file}:{name or own}"})).network


def _misfits(module: nn.Module, weights: Any, header: TicketHeader) -> Iterator[str]:
    """Yield in words what keeps a module from being the dense network of a ticket, or the very one it holds."""
    if not isinstance(weights, dict):
        yield "fits no ticket without named weights"
        return
    mine, theirs = _forms(module.state_dict()), _forms(weights)
    removed = tuple(f"{name}." for name in header.plan.gone)
    maps = tuple(f"{name}." for name in header.plan.maps)
    yield from _listed("lacks", [name for name in theirs if name not in mine and not name.startswith(maps)])
    yield from _listed("has beyond it", [name for name in mine if name not in theirs and not name.startswith(removed)])
    if not header.plan.removed_filters:  # which change shapes
        differing = [n for n, form in theirs.items() if mine.get(n, form) != form and not n.startswith(maps)]
        yield from _listed("has", [f"{name} as {mine[name]} in place of {theirs[name]}" for name in differing])


def _listed(what: str, names: list[str]) -> Iterator[str]:
    if names:
        yield f"{what} {', '.join(names[:_SHOWN])}{f' and {len(names) - _SHOWN} more' if names[_SHOWN:] else ''}"


def _forms(weights: Mapping[str, Any]) -> dict[str, str]:
    """Return, by name, the type and shape of tensors."""
    return {
        name: f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
        if isinstance(value, Tensor)
        else f"a {type(value).__name__}"
        for name, value in weights.items()
    }
