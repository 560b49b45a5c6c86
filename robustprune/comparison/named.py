"""``NAME=RECORDS`` as it is typed: commas and equal signs may be part of paths, as in Hydra's ``lr=0.1,seed=0/``."""

from __future__ import annotations

import glob
from functools import cache

from robustprune.errors import ComparisonError
from robustprune.runtime.files import printable, user_path

_MOST_COMMAS = 16  # within one path


def is_place(text: str) -> bool:
    """Return whether a text is a file, a folder, or a pattern that matches one."""
    try:
        path = user_path(text)
        return bool(text) and (path.exists() or (glob.has_magic(str(path)) and bool(glob.glob(str(path)))))
    except (OSError, RuntimeError, ValueError):  # too long, of no such user, with a null byte
        return False


def is_named(text: str) -> bool:
    """Return whether a text is ``NAME=RECORDS`` rather than a path or a pattern with an equal sign in it."""
    return "=" in text and not is_place(text)


def split_named(text: str) -> tuple[str, list[str]]:
    """Return the name and the places of ``NAME=PLACE,PLACE,…``.

    The name ends at the first equal sign after which all is there, at the very first where none is such. A text that is
    a file is one, whatever commas it holds; else it is parted at commas between places that are there.

    Raises:
        ComparisonError: It is of another form, or of what commas part nothing is there; the message names the parts.
    """
    signs = [place for place, letter in enumerate(text) if letter == "="]
    splits = [(text[:sign], text[sign + 1 :]) for sign in signs]
    for name, places in splits:
        if name.strip() and (found := _part(places)):
            return printable(name), found
    name, places = splits[0] if splits else ("", "")
    given = [place for place in places.split(",") if place.strip()]
    if not (name.strip() and given):
        raise ComparisonError(
            f"records are given as NAME=FILE,FILE,…, such as dense=a.json,b.json; {text!r} is not of the form name=FILE"
        )
    if len(given) > 1:
        missing = ", ".join(repr(place) for place in given if not is_place(place))
        raise ComparisonError(
            f"the records of {name!r} cannot be read: there is no {places!r}, and of what its commas part there is no "
            f"{missing}"
        )
    return printable(name), given


def _part(text: str) -> list[str]:
    """Return the places that a text names, the longest that are there; none where some part of it is not there."""
    if is_place(text):
        return [text]
    parts = text.split(",")
    known = cache(is_place)
    dead: set[int] = set()

    def walk(start: int) -> list[str] | None:
        if start == len(parts):
            return []
        if start in dead:
            return None
        if not parts[start]:
            return walk(start + 1)
        for end in range(min(len(parts), start + 1 + _MOST_COMMAS), start, -1):
            place = ",".join(parts[start:end])
            if known(place) and (rest := walk(end)) is not None:
                return [place, *rest]
        dead.add(start)
        return None

    return walk(0) or []
