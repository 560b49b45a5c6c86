"""The rows of a folder: those of a sweep's runs, or of all records that lie in it."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from robustprune.errors import EvaluationError, RecordWarning
from robustprune.runtime.files import all_printable, printable, write_atomically
from robustprune.runtime.kinds import QUERY_INDEX
from robustprune.sweep.query.flatten import Row, flatten
from robustprune.sweep.store import Store

_INDEX = "query-index.json"
_SCHEMA = 2
# Settings of a run that its record says less of, or says otherwise: what was asked for is what is asked about.
_FROM_THE_RUN = ("method", "criterion", "blocks", "eligibility", "match_by", "at_init", "rewind", "seed", "threads")


def load_rows(folder: str | Path) -> list[Row]:
    """Return one row for every run of the sweeps in a folder that has a record; of a plain folder, for every record.

    What records come to is kept beside them, and read from there as long as they have the same size and time. A record
    that cannot be read is named in a :class:`~robustprune.errors.RecordWarning` and left out.

    Raises:
        EvaluationError: There is no such folder, or no record in it that can be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise EvaluationError(f"there is no folder {folder} to look for records in")
    before = _read_index(folder)
    index: dict[str, Any] = {}
    rows = []
    problem: EvaluationError | None = None
    for path, run in _records(folder):
        name = str(path.relative_to(folder))
        try:
            known = _row(path, before.get(name))
            if known is None and run:
                raise EvaluationError(f"{path} is no record, but other JSON")
        except EvaluationError as error:
            problem = problem or error
            warnings.warn(f"left out: {error}", RecordWarning, stacklevel=2)
            continue
        if known is not None:
            index[name] = known
            own_name = printable(path.name.removesuffix(".json"))
            rows.append({"run": own_name, "sweep": None, **known["row"], **run, "record": str(path)})
    if not rows and problem is not None:
        raise EvaluationError(f"there is no record in {folder} that can be read: {problem}") from problem
    if not rows:
        raise EvaluationError(f"there is no record in {folder}; records are what evaluate --out and sweep --out leave")
    if index != _read_index(folder):
        with suppress(OSError):  # a folder that may only be read is read anew each time
            write_atomically(folder / _INDEX, json.dumps({"schema": _SCHEMA, "files": index}).encode(), QUERY_INDEX)
    return rows


def _row(path: Path, known: Any) -> dict[str, Any] | None:
    """Return a file's size, time and row, as ``known`` has them where it has not changed; None for other JSON."""
    try:
        found = path.stat()
    except OSError as error:
        raise EvaluationError(f"the record {path} cannot be read: {error.strerror}") from error
    seen = [found.st_size, found.st_mtime_ns]
    if isinstance(known, dict) and known.get("seen") == seen and isinstance(known.get("row"), dict):
        return known
    content = _read(path)
    return None if content is None else {"seen": seen, "row": content}


def _records(folder: Path) -> Iterator[tuple[Path, Row]]:
    """Yield the files of records, and what a sweep knows of the run that left one."""
    store = Store(folder)
    plans, done = store.plans(), store.done()
    if not plans:
        for home, folders, files in os.walk(folder):
            names = [*folders, *files]  # a folder where a record should be is to be named, too
            yield from ((Path(home, name), {}) for name in sorted(names) if name.endswith(".json") and name != _INDEX)
        return
    seen: set[str] = set()
    for name, plan in plans.items():
        for run in plan.runs:
            if run.stage in done and run.stage not in seen:
                seen.add(run.stage)
                own = {key: run.settings[key] for key in _FROM_THE_RUN if key in run.settings}
                more = {key: value for key, value in run.settings.items() if key.startswith(("train_", "data_"))}
                options = {f"option_{key}": value for key, value in run.settings.get("criterion_options", {}).items()}
                yield store.record(run.stage), {"run": run.name, "sweep": name, **own, **more, **options}


def _read(path: Path) -> Row | None:
    """Return the row of a record; None for JSON of another kind."""
    try:
        content = _parse(path.read_bytes())
    except OSError as error:
        raise EvaluationError(f"the record {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"the record {path} cannot be read: {error}") from error
    if not isinstance(content, dict) or not {"schema", "model", "clean"} <= content.keys():
        return None
    try:
        row = flatten(content)
        json.dumps(row, allow_nan=False)  # as all figures of a record are finite
        return row
    except (KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError, IndexError) as error:
        raise EvaluationError(f"{path} is no record of this version: {type(error).__name__}: {error}") from error


def _parse(content: bytes) -> Any:
    if b"\\ud" not in content.lower():
        return from_json(content, cache_strings="keys")  # thrice as fast as json.loads
    # Earlier versions wrote bytes of names that are no UTF-8 as lone surrogates, which are no JSON.
    return all_printable(json.loads(content))


def _read_index(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads((folder / _INDEX).read_bytes())
        if isinstance(content, dict) and content.get("schema") == _SCHEMA and isinstance(content.get("files"), dict):
            return dict(content["files"])
    return {}
