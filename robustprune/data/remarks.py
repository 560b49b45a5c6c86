"""What was left out, turned or assumed while an image set was read: gathered, and said once, in one line."""

from __future__ import annotations

import warnings
from pathlib import Path

from robustprune.errors import DataWarning
from robustprune.runtime.files import printable


class Remarks:
    """What a reader of an image set has to say of single files or names."""

    def __init__(self, where: Path) -> None:
        """Gather remarks on what lies at ``where``; paths below it are shown from there."""
        self._where = where
        self._found: dict[str, list[str]] = {}

    def add(self, what: str, thing: Path | str) -> None:
        """Note that ``what`` holds of a file, a folder or a name."""
        if isinstance(thing, Path) and thing.is_relative_to(self._where):
            thing = thing.relative_to(self._where)
        self._found.setdefault(what, []).append(printable(thing))

    def say(self) -> None:
        """Give one warning that holds them all; none where there is nothing to say."""
        if self._found:
            parts = "; ".join(f"{what}: {_listed(things)}" for what, things in self._found.items())
            line = f"{printable(self._where)}: {parts}".replace("\n", "\\n")
            warnings.warn(line, DataWarning, stacklevel=2)


def _listed(things: list[str]) -> str:
    return things[0] if len(things) == 1 else f"{things[0]} and {len(things) - 1} more"
