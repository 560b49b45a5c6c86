"""Rows as a table of DuckDB's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from robustprune.runtime.files import printable
from robustprune.sweep.query.record_rows import RecordRow


def fill(connection: duckdb.DuckDBPyConnection, rows: Sequence[RecordRow], known: Sequence[str]) -> None:
    """Make a table ``runs`` of rows, with a typed column for each name."""
    kinds = {name: _kind([row.get(name) for row in rows]) for name in known}
    columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in kinds.items())
    connection.execute(f"CREATE TABLE runs ({columns})")
    # One list a column: of statements with a mark for each value, parsing alone takes seconds.
    lists = ", ".join(f"unnest(?::{kind}[])" for kind in kinds.values())
    values = [[_plain(row.get(name)) for row in rows] for name in known]
    if rows:
        connection.execute(f"INSERT INTO runs SELECT {lists}", values)


def _kind(values: Sequence[Any]) -> str:
    there = {type(value) for value in values if value is not None}
    if there and there <= {bytes}:
        return "BLOB"
    if there and there <= {bool}:
        return "BOOLEAN"
    if there and there <= {int}:
        return "BIGINT"
    return "DOUBLE" if there and there <= {int, float} else "VARCHAR"


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    return value if value is None or isinstance(value, bool | int | float | bytes) else json.dumps(value)


def quoted(name: str) -> str:
    """Return a column's name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def literal(path: Path) -> str:
    """Return a path as a text in SQL."""
    return "'" + str(path).replace("'", "''") + "'"
