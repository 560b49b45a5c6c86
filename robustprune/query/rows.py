"""The rows of a folder: those of a sweep's runs, or of all records that lie in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from robustprune.errors import EvaluationError
from robustprune.files import write_atomically
from robustprune.query.flatten import Row, flatten
from robustprune.sweep import Store

_INDEX = "query-index.json"
_SCHEMA = 2
# Settings of a run that its record says less of, or says otherwise: what was asked for is what is asked about.
_FROM_THE_RUN = ("method", "criterion", "blocks", "eligibility", "match_by", "at_init", "rewind", "seed", "threads")


def load_rows(folder: str | Path) -> list[Row]:
    """Return one row for every run of the sweeps in a folder that has a record; of a plain folder, for every record.

    What records come to is kept beside them, and read from there as long as they have the same size and time.

    Raises:
        EvaluationError: There is no such folder, no record in it, or one that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise EvaluationError(f"there is no folder {folder} to look for records in")
    before = _read_index(folder)
    index: dict[str, Any] = {}
    rows = []
    for path, run in _records(folder):
        name = str(path.relative_to(folder))
        found = path.stat()
        seen = [found.st_size, found.st_mtime_ns]
        if before.get(name, {}).get("seen") != seen:
            content = _read(path)
            if content is None:
                continue
            before[name] = {"seen": seen, "row": content}
        index[name] = before[name]
        rows.append({"run": path.stem, "sweep": None, **index[name]["row"], **run, "record": str(path)})
    if not rows:
        raise EvaluationError(f"there is no record in {folder}; records are what evaluate --out and sweep --out leave")
    if index != _read_index(folder):
        with suppress(OSError):  # a folder that may only be read is read anew each time
            write_atomically(folder / _INDEX, json.dumps({"schema": _SCHEMA, "files": index}).encode())
    return rows


def _records(folder: Path) -> Iterator[tuple[Path, Row]]:
    """Yield the files of records, and what a sweep knows of the run that left one."""
    store = Store(folder)
    plans, done = store.plans(), store.done()
    if not plans:
        for home, _, names in os.walk(folder):
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
        content = from_json(path.read_bytes(), cache_strings="keys")  # thrice as fast as json.loads
    except (OSError, ValueError) as error:
        raise EvaluationError(f"the record {path} cannot be read: {error}") from error
    if not isinstance(content, dict) or not {"schema", "model", "clean"} <= content.keys():
        return None
    try:
        return flatten(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise EvaluationError(f"{path} is no record of this version: {type(error).__name__}: {error}") from error


def _read_index(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, AttributeError):
        content = json.loads((folder / _INDEX).read_text())
        if content.get("schema") == _SCHEMA:
            files: dict[str, Any] = content["files"]
            return files
    return {}
