"""The corruptions by name, and the options each of them takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from robustprune.errors import CorruptionError
from robustprune.registry import Registry, read_options, read_tables

_TABLES = read_tables("corruptions")
HEADLINE: tuple[str, ...] = tuple(_TABLES["HEADLINE"])
EXTRAS: tuple[str, ...] = tuple(_TABLES["EXTRAS"])
SEVERITIES = (1, 2, 3, 4, 5)

CORRUPTIONS = Registry("corruption", "robustprune.corruptions", _TABLES["PLUGINS"])

Corruption = Callable[..., Any]

register_corruption = CORRUPTIONS.register
"""Returns a decorator that makes ``corruption(images, severity, draws, *, option=default, …)`` known as a name."""


def get_corruption(name: str) -> Corruption:
    """Return the corruption called ``name``.

    Raises:
        UnknownNameError: There is none of that name.
        CorruptionError: It is no name, or carries an argument (``fog:something``), which no corruption takes.
    """
    if not isinstance(name, str):
        raise CorruptionError(f"a corruption is given by its name, got {name!r}")
    found: Corruption = CORRUPTIONS.get(name)
    if ":" in name:
        raise CorruptionError(
            f"the corruption {name.partition(':')[0]!r} takes no argument after a colon, got {name!r}; an option is "
            "written as in frost:folder=PICTURES"
        )
    return found


def corruption_options(name: str) -> dict[str, Any]:
    """Return the options of a corruption with their defaults."""
    # The first three are the images, the severity and the draws.
    parameters = list(inspect.signature(get_corruption(name)).parameters.values())[3:]
    return {parameter.name: parameter.default for parameter in parameters}


def list_names(names: Any) -> list[Any]:
    """Return names, or a single one, as a list; a mapping counts as one, and is none: what it says of each is lost."""
    is_single = isinstance(names, str | Mapping) or not isinstance(names, Iterable)
    return [names] if is_single else list(names)


def expand_names(names: str | Sequence[str]) -> list[str]:
    """Return corruption names with ``all`` (the fifteen) and ``extras`` (the four) spelled out, each name once.

    Options behind the names are left out.

    Raises:
        CorruptionError: Something is no name, or one has two values of an option.
        UnknownNameError: There is no corruption of a name.
    """
    return list(named_options(names))


def named_options(names: str | Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the options that are written behind each name, ``frost:folder=PICTURES``; otherwise as `expand_names`."""
    groups = {"all": HEADLINE, "headline": HEADLINE, "extras": EXTRAS}
    found: dict[str, dict[str, Any]] = {}
    for text in list_names(names):
        name, options = read_options(text) if isinstance(text, str) else (text, {})
        for each in groups[name] if isinstance(name, str) and name in groups else (name,):
            get_corruption(each)
            own = found.setdefault(each, {})
            if own and options and own != options:
                raise CorruptionError(f"{each} is asked for with {own} and with {options}; ask for it once")
            own.update(options)
    return found
