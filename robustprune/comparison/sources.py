"""Finds records: in files, folders and patterns, and in ``NAME=RECORDS`` on the command line.

Commas and equal signs may be part of a path, as in Hydra's ``lr=0.1,seed=0/``.
"""

from __future__ import annotations

import glob
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

from robustprune.errors import ComparisonError, EvaluationError, RecordWarning
from robustprune.records import Record, load_record
from robustprune.runtime.files import printable, user_path


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

    The name ends at the first equal sign. The rest is one place if it exists, even with commas; else it is split at the
    commas.

    Raises:
        ComparisonError: The text has another form, or one of several places does not exist.
    """
    name, _, rest = text.partition("=")
    places = [rest] if is_place(rest) else [place for place in rest.split(",") if place.strip()]
    if not (name.strip() and places):
        raise ComparisonError(
            f"records are given as NAME=FILE,FILE,…, such as dense=a.json,b.json; {text!r} is not of the form name=FILE"
        )
    missing = ", ".join(repr(place) for place in places if not is_place(place))
    if missing and len(places) > 1:
        raise ComparisonError(
            f"the records of {name!r} cannot be read: there is no {rest!r}, nor {missing}; give a path with a comma by "
            f"itself, as in {name}=FILE {name}=FILE"
        )
    return printable(name), places


def read_records(source: str | Path, left_out: list[Path] | None = None) -> Iterator[tuple[Path, Record]]:
    """Yield the records in a file or folder, or in the files that match a pattern.

    A file of a folder that cannot be read is added to ``left_out``, with a warning; without that list it is an error.

    Raises:
        ComparisonError: There is no record, or none that can be read.
        EvaluationError: A record cannot be read: one of a folder without ``left_out``, or one that is named by itself
            or by a pattern.
    """
    is_lenient = left_out is not None and user_path(source).is_dir()
    problem, count = None, 0
    for path in find_records(source, lenient=is_lenient):
        try:
            record = load_record(path)
        except EvaluationError as error:
            if left_out is None or not is_lenient:
                raise
            problem = error
            warnings.warn(f"left out: {error}", RecordWarning, stacklevel=2)
            left_out.append(path)
        else:
            count += 1
            yield path, record
    if not count:
        raise ComparisonError(f"{source} holds no record that can be read: {problem}") from problem


def find_records(source: str | Path, *, lenient: bool = False) -> list[Path]:
    """Return the files at a path: the file itself, all records in and below a folder, or the matches of a pattern.

    If ``lenient``, files of a folder that cannot be read are included: they may be records.

    Raises:
        ComparisonError: There is no record.
    """
    path = user_path(source)
    if path.is_dir():
        found = [each for each in sorted(path.rglob("*.json")) if _is_record(each, lenient)]
    elif path.exists() or not glob.has_magic(str(path)):
        return [path]
    else:
        found = [Path(each) for each in sorted(glob.glob(str(path), recursive=True))]
    if not found:
        missing = "holds no record" if path.is_dir() else "matches no file"
        raise ComparisonError(f"{source} {missing}; `robustprune evaluate … --out FILE.json` writes one")
    return found


def _is_record(path: Path, lenient: bool) -> bool:
    """Return whether a file is a record rather than some other JSON.

    A damaged record counts as one, to be reported: a seed that is left out silently would change the verdict.
    """
    text = b""
    try:
        text = path.read_bytes()
        content = json.loads(text)
    except (OSError, ValueError, RecursionError):
        # Records begin with their schema, also those that were cut off.
        return lenient or b'"schema"' in text[:40]
    return isinstance(content, dict) and {"schema", "model", "samples_sha256"} <= content.keys()
