"""Named plug-ins: tables of those that are built in, entry points of other packages, and a decorator."""

from __future__ import annotations

import difflib
import inspect
import runpy
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from robustprune.errors import MissingDependencyError, RobustPruneError, UnknownNameError


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean …?`` for the known names nearest to ``name``, or an empty string."""
    by_lower_case = {candidate.lower(): candidate for candidate in known}
    nearest = difflib.get_close_matches(name.lower(), by_lower_case, n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(by_lower_case[match]) for match in nearest)}?" if nearest else ""


def share_options(
    takes: Mapping[str, Collection[str]], options: Mapping[str, Any], error: type[RobustPruneError]
) -> dict[str, dict[str, Any]]:
    """Return, for each of several plug-ins, those of the given options that it takes, ``takes`` having their names.

    An option that none of them takes raises ``error``.
    """
    every = sorted(set().union(*takes.values()))
    for option in options:
        if option not in every:
            raise error(
                f"{option!r} is no option of {' or '.join(takes)}.{suggest(option, every)} "
                f"What they take: {', '.join(every) or 'nothing'}."
            )
    return {name: {key: value for key, value in options.items() if key in known} for name, known in takes.items()}


def missing_package(what: str, package: str, *, extra: str | None = None) -> MissingDependencyError:
    """Return the error that says which package is missing for what, and how to install it, alone or by our extra."""
    wanted = f"'robustprune[{extra}]'" if extra else package
    return MissingDependencyError(
        f"{what} needs the package {package!r}, which is not installed; install it with: pip install {wanted}"
    )


@dataclass(frozen=True, init=False)
class Entry:
    """A plug-in as a table has it: ``Entry("module:attribute", "What it does.", option=default)``."""

    target: str
    description: str
    argument: str  # what its name takes after a colon, such as PATH:NAME; empty for nothing
    options: Mapping[str, Any]  # with their defaults

    def __init__(self, target: str, description: str = "", argument: str = "", /, **options: Any) -> None:
        """Take the options by their own names."""
        vars(self).update(target=target, description=description, argument=argument, options=options)


def read_tables(room: str) -> dict[str, Any]:
    """Return what stands in the ``plugins.py`` of a room, of which ``PLUGINS`` maps each name to its `Entry`.

    The file is run by itself: to import it would import the room, and with it torch.
    """
    return runpy.run_path(str(Path(__file__).parent / room / "plugins.py"))


def first_line(plugin: Any) -> str:
    """Return what a plug-in says of itself in the first line of its docstring."""
    return (inspect.getdoc(plugin) or "").partition("\n")[0].replace("``", "")


class Registry:
    """Looks a plug-in up by name, importing its module only then.

    A name may carry an argument after a colon (``torchvision:resnet50``); the part before it is what is
    looked up. Order of precedence: names registered in this process, built-ins, entry points, so that an
    installed package can add names but never replace a built-in one.
    """

    def __init__(self, kind: str, group: str, builtin: Mapping[str, Entry]) -> None:
        """Create a registry.

        Args:
            kind: What the names stand for, as used in error messages ("criterion").
            group: The entry-point group of third-party plug-ins ("robustprune.criteria").
            builtin: Name → what stands in the table of its room, see :func:`read_tables`.
        """
        self.kind = kind
        self.group = group
        self.builtin = dict(builtin)
        self._registered: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[Any], Any]:
        """Return a decorator that registers its target under ``name`` in this process.

        Raises:
            ValueError: The name is already that of a built-in or registered plug-in, or holds a colon.
        """
        if ":" in name:
            raise ValueError(f"{self.kind} {name!r}: what follows a colon is an argument; choose a name without one")
        if name in self.builtin or name in self._registered:
            raise ValueError(f"{self.kind} {name!r} is already registered; choose another name")

        def decorate(plugin: Any) -> Any:
            self._registered[name] = plugin
            return plugin

        return decorate

    def names(self) -> list[str]:
        """Return all known names, sorted, without importing any plug-in."""
        return sorted({*self.builtin, *self._registered, *self._entry_points()})

    def get(self, name: str) -> Any:
        """Return the plug-in called ``name`` (anything after a colon is ignored).

        Raises:
            UnknownNameError: Nothing of that name; the message names the nearest known ones.
            MissingDependencyError: The plug-in exists but its module needs a package that is not installed.
            RobustPruneError: Another package's plug-in does not load.
        """
        key = name.partition(":")[0]
        if key in self._registered:
            return self._registered[key]
        try:
            if key in self.builtin:
                module, _, attribute = self.builtin[key].target.partition(":")
                return getattr(import_module(module), attribute)
            points = self._entry_points()
            if key in points:
                return points[key].load()
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package in ("", "robustprune"):
                raise  # a defect of this package, which installing something would not mend
            raise missing_package(f"{self.kind} {name!r}", package) from error
        except Exception as error:
            if key in self.builtin:
                raise
            owner = points[key].dist.name if points[key].dist else "an installed package"  # type: ignore[union-attr]
            raise RobustPruneError(
                f"{self.kind} {name!r}, a plug-in of {owner}, cannot be loaded from {points[key].value}: "
                f"{type(error).__name__}: {error}; update or remove {owner}"
            ) from error
        raise UnknownNameError(
            f"there is no {self.kind} called {name!r}.{suggest(key, self.names())} Known: {', '.join(self.names())}."
        )

    def _entry_points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}
