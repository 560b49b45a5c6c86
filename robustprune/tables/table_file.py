"""A table of tickets as a Parquet file: a row for each network, typed columns, and what it is made of as metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from robustprune.errors import TableError
from robustprune.runtime.file_kinds import TICKET_TABLE
from robustprune.runtime.files import write_atomically
from robustprune.sweep.query.duck_rows import fill, literal

SCHEMA = 1
_KEY = "robustprune-table"

Row = dict[str, Any]


def write_table_file(path: Path, rows: Sequence[Row], facts: Mapping[str, Any]) -> None:
    """Write rows, with the columns of all of them in the order of the first, and facts that JSON can hold.

    Raises:
        TableError: The file cannot be written, or another one is there.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    try:
        with duckdb.connect() as connection, TemporaryDirectory() as folder:
            fill(connection, rows, names)
            # Of what will be read: columns are in one order then, and those of some rows only are empty in the others.
            digest = checksum(_rows(connection.execute("SELECT * FROM runs")))
            told = {**facts, "schema": SCHEMA, "columns": names, "rows": len(rows), "sha256": digest}
            made = Path(folder, "table")
            metadata = "'" + json.dumps(told, sort_keys=True).replace("'", "''") + "'"
            how = f"FORMAT parquet, COMPRESSION zstd, KV_METADATA {{'{_KEY}': {metadata}}}"
            connection.execute(f"COPY runs TO {literal(made)} ({how})")
            write_atomically(path, made.read_bytes(), TICKET_TABLE)
    except (duckdb.Error, OSError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise TableError(f"{path} cannot be written: {reason}") from error


def read_table_file(path: Path) -> tuple[list[Row], dict[str, Any]]:
    """Return the rows and the facts of a file.

    Raises:
        TableError: It is missing, damaged, no table of tickets, or of another version.
    """
    if not path.is_file():
        raise TableError(f"there is no file {path}")
    try:
        with duckdb.connect() as connection:
            facts = _facts(connection, path)
            rows = _rows(connection.execute(f"SELECT * FROM read_parquet({literal(path)})"))
    except (duckdb.Error, ValueError) as error:
        raise TableError(f"{path} is no table of tickets, or is damaged: {' '.join(str(error).split())}") from error
    if facts.get("schema") != SCHEMA:
        raise TableError(f"{path} has version {facts.get('schema')} of the format, and this reads {SCHEMA}")
    if facts.get("sha256") != checksum(rows):
        raise TableError(f"{path} is damaged: its content has another checksum than it says; fetch it anew")
    return rows, facts


def checksum(rows: Sequence[Row]) -> str:
    """Return the SHA-256 of all names and values, in their order."""
    digest = hashlib.sha256()
    for row in rows:
        plain = {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}
        digest.update(json.dumps(plain, allow_nan=False).encode())
    return digest.hexdigest()


def _rows(found: duckdb.DuckDBPyConnection) -> list[Row]:
    names = [each[0] for each in found.description or ()]
    return [dict(zip(names, values, strict=True)) for values in found.fetchall()]


def _facts(connection: duckdb.DuckDBPyConnection, path: Path) -> dict[str, Any]:
    asked = f"SELECT value FROM parquet_kv_metadata({literal(path)}) WHERE decode(key) = '{_KEY}'"
    found = connection.execute(asked).fetchone()
    if found is None:
        raise ValueError("its metadata says nothing of tickets")
    facts: dict[str, Any] = json.loads(found[0])
    return facts
