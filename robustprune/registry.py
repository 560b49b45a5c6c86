"""Named plug-ins: how a name and its options are written, the built-in tables, entry points, and a decorator."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustprune.errors import MissingDependencyError, RobustPruneError, UnknownNameError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean …?`` for the known names nearest to ``name``, or an empty string."""
    import difflib

    by_lower_case = {candidate.lower(): candidate for candidate in known}
    nearest = difflib.get_close_matches(name.lower(), by_lower_case, n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(by_lower_case[match]) for match in nearest)}?" if nearest else ""


_OPTION = re.compile(r"[^\W\d][\w-]*\s*=")
_FIRST_OPTION = re.compile(r":\s*(?=[^\W\d][\w-]*\s*=)")
"""What comes before ``key=value``. A key is written as a keyword is, so ``runs/lr=0.1`` in a path is none."""
_JOINT = re.compile(r"(?<=[^\s=])\+(?=[^\W\d]|[./~])")
"""Between joined names. Behind that of a number, as in 1e+5, comes a digit."""
_WHOLE = re.compile(r"[+-]?(0|[1-9]\d*)")
_NUMBER = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE)
_FRACTION = re.compile(r"(\d+(?:\.\d*)?)/(0*[1-9]\d*)")
_TEXTS = ("weights_file", "threat_model")  # text, whatever it looks like


def split_names(text: str, *, joined: bool = False) -> list[str]:
    """Return the names in a list with commas, each with its options: ``pgd:steps=40,loss=margin,fgsm`` has two.

    A part between commas is one more option of the name before it where it is written ``key=value``, and begins a new
    name where it is not, or where a name and a colon come before the key. Criteria may be ``joined``, as
    :func:`split_joined` reads it; they stay together.

    Raises:
        RobustPruneError: A name is empty; or an option has no value, or two.
    """
    names: list[str] = []
    split: Callable[[str], list[str]] = split_joined if joined else lambda name: [name]
    for part in (each.strip() for each in text.split(",")):
        if not part:
            raise RobustPruneError(f"{text!r} has an empty name in it; remove a comma, or was a variable unset?")
        if names and _OPTION.match(part):
            names[-1] += ("," if _FIRST_OPTION.search(split(names[-1])[-1]) else ":") + part
        else:
            names.append(part)
    return ["+".join(with_options(*split_options(part)) for part in split(name)) for name in names]


def split_joined(name: str) -> list[str]:
    """Return names that are joined to one, each with its options: ``grasp:batch_size=32+cka`` has two.

    There are no spaces around the plus.
    """
    return _JOINT.split(name)


def split_options(name: str) -> tuple[str, dict[str, str]]:
    """Return a plug-in's name without its options, and these as text: ``pgd:steps=40`` is ``pgd`` and steps.

    Raises:
        RobustPruneError: An option has no value, or two.
    """
    begin = _FIRST_OPTION.search(name)
    if begin is None:
        return name.strip(), {}
    plain, options = name[: begin.start()].strip(), {}
    for part in name[begin.end() :].split(","):
        key, _, value = (each.strip() for each in part.partition("="))
        if not value:
            raise RobustPruneError(f"{plain}: the option {key!r} has no value; give it one, or was a variable unset?")
        if key in options:
            raise RobustPruneError(f"{plain}: the option {key!r} is given twice; give it once")
        options[key] = value
    return plain, options


def read_options(name: str) -> tuple[str, dict[str, Any]]:
    """Return a plug-in's name without its options, and these as what they stand for, see :func:`read_value`."""
    plain, options = split_options(name)
    return plain, {key: text if key in _TEXTS else read_value(text) for key, text in options.items()}


def read_value(text: str) -> int | float | bool | str:
    """Return what an option's text stands for: 4, 1e-5 and 8/255 are numbers; 007 and 1_000, as names, are not."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _WHOLE.fullmatch(text):
        return int(text)
    if fraction := _FRACTION.fullmatch(text):
        return float(fraction[1]) / float(fraction[2])
    return float(text) if _NUMBER.fullmatch(text) else text


def with_options(name: str, options: Mapping[str, Any]) -> str:
    """Return a name with options as :func:`split_options` reads it."""
    written = ",".join(f"{key}={value}" for key, value in options.items())
    return f"{name}:{written}" if written else name


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
    import runpy

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
        from importlib.metadata import entry_points  # takes longer to import than all of click

        return {point.name: point for point in entry_points(group=self.group)}
