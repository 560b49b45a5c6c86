"""Records on disk: all in a folder, or those that are named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustprune.comparison.sources import is_named, read_records, split_named
from robustprune.errors import ReportError
from robustprune.records import Record
from robustprune.report.grouping import Group, group_records, make_group


def load_groups(sources: Sequence[str | Path]) -> list[Group]:
    """Return the records that sources name, grouped.

    Args:
        sources: Either ``name=FILE,FILE,…``, each a method and the records of its seeds, ``dense`` among them; or
            files, folders and patterns of files, grouped by what the records say.

    Raises:
        ReportError: Both kinds at once, or groups that make no report.
        ComparisonError: There is no record in a folder.
        EvaluationError: A record cannot be read.
    """
    texts = [str(source) for source in sources]
    named = [text for text in texts if is_named(text)]
    left_out: list[Path] = []
    if not named:
        records = _read(texts, left_out)
        return group_records(records, lenient=bool(left_out))
    if len(named) < len(texts):
        raise ReportError(
            f"{next(text for text in texts if text not in named)} has no name while {named[0]} has; name all "
            "records (name=FILE,FILE) or none"
        )
    given: dict[str, list[Record]] = {}
    for text in named:
        name, places = split_named(text)
        given.setdefault(name, []).extend(_read(places, left_out))
    return [make_group(given)]


def _read(places: Sequence[str], left_out: list[Path]) -> list[Record]:
    """Return the records of some places, each once, though it may be in two of them."""
    found: dict[Path, Record] = {}
    for place in places:
        for path, record in read_records(place, left_out):
            found.setdefault(path.resolve(), _narrowed(record))
    return list(found.values())


def _narrowed(record: Record) -> Record:
    """Return a record whose predictions take as few bytes as they can: hundreds are held at once."""
    if record.samples is not None:
        record.samples = {name: _narrow(values) for name, values in record.samples.items()}
    return record


def _narrow(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind != "i" or not values.size:
        return values
    largest = np.abs(values).max()
    enough = (kind for kind in (np.int8, np.int16, np.int32) if np.iinfo(kind).max >= largest)
    return values.astype(next(enough, np.int64))
