"""A condition in SQL over rows, answered by DuckDB."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import duckdb

from robustprune.errors import EvaluationError
from robustprune.registry import suggest
from robustprune.runtime.file_kinds import FileKind
from robustprune.runtime.files import printable, write_atomically
from robustprune.sweep.query.duck_rows import fill, literal
from robustprune.sweep.query.record_rows import RecordRow

Format = Literal["table", "csv", "json", "parquet"]
DEFAULT = ("run", "accuracy", "corruption_mean_accuracy")


@dataclass(frozen=True)
class QueryResult:
    """Rows that a condition holds for."""

    columns: list[str]
    rows: list[tuple[Any, ...]]

    def to_dicts(self) -> list[RecordRow]:
        """Return the rows by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def query(
    rows: Sequence[RecordRow],
    where: str | None = None,
    columns: Sequence[str] | None = None,
    *,
    order: str | None = None,
    out: str | Path | None = None,
    form: Format = "table",
) -> QueryResult:
    """Return the rows for which a condition holds.

    Args:
        rows: From :func:`load_rows`.
        where: A condition in DuckDB's SQL: ``criterion == 'grasp' and blocks >= 3``.
        columns: Expressions: names of columns, or ``avg(accuracy) as mean``, which makes one row of those that agree in
            all plain columns.
        order: By which expression to sort.
        out: A file to write them to, as ``form`` csv, json or parquet.
        form: Of that file.

    Raises:
        EvaluationError: A column that there is not, with what was probably meant, or no condition at all.
    """
    where, order = where and printable(where), order and printable(order)
    columns = [printable(text) for text in columns or ()]
    known = list(dict.fromkeys(name for row in rows for name in row))
    attacked = [name for name in known if re.search(r"_(linf|l2|l1)_", name)]
    chosen = columns or [name for name in DEFAULT if name in known] + attacked
    with duckdb.connect() as connection:
        fill(connection, rows, known)
        # From here on, what a user typed: it can reach the rows and nothing else, and cannot change that.
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        try:
            found = connection.execute(_select(connection, chosen, where, order))
            columns = [each[0] for each in found.description or ()]
            answer = QueryResult(columns, [tuple(_for_json(value) for value in row) for row in found.fetchall()])
        except duckdb.Error as error:
            raise EvaluationError(_explain(error, known)) from error
    if out is not None:
        _write(answer, Path(out), form)
    return answer


def _for_json(value: Any) -> Any:
    """Return a value of DuckDB's as one that JSON can hold: no decimals, no date, and None for what is no number."""
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list | tuple):
        return [_for_json(each) for each in value]
    if isinstance(value, dict):
        return {str(name): _for_json(each) for name, each in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _select(connection: duckdb.DuckDBPyConnection, columns: Sequence[str], where: str | None, order: str | None) -> str:
    for text in (*columns, where or "", order or ""):
        if ";" in text:
            raise EvaluationError(f"{text!r} holds a semicolon; give one expression")
    aggregates = connection.execute("SELECT function_name FROM duckdb_functions() WHERE function_type = 'aggregate'")
    functions = {name.lower() for text in columns for name in re.findall(r"(\w+)\s*\(", text)}
    # By all columns that are no aggregates.
    grouped = " GROUP BY ALL" if functions & {name for (name,) in aggregates.fetchall()} else ""
    condition = f" WHERE ({where})" if where else ""
    return f"SELECT {', '.join(columns)} FROM runs{condition}{grouped}{f' ORDER BY {order}' if order else ''}"


def _explain(error: duckdb.Error, known: Sequence[str]) -> str:
    text = " ".join(str(error).split())
    missing = re.search(r'[Cc]olumn "?([^"\s]+)"? not found', text)
    if missing:
        name = missing[1]
        near = suggest(name, known)
        return f"there is no column {name!r}.{near} `--columns all --format json` shows all {len(known)}."
    return f"the question cannot be answered: {text.partition(' LINE 1')[0]}"


def _write(answer: QueryResult, out: Path, form: Format) -> None:
    """Write rows to a file, whole or not at all."""
    try:
        write_atomically(out, _as_file(answer, form), _rows_kind(answer.columns, form))
    except (duckdb.Error, OSError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise EvaluationError(f"{out} cannot be written: {reason}") from error


def _as_file(answer: QueryResult, form: Format) -> bytes:
    if form == "json":
        return f"{json.dumps(answer.to_dicts(), indent=2, allow_nan=False)}\n".encode()
    options = "FORMAT parquet" if form == "parquet" else "FORMAT csv, HEADER"
    with duckdb.connect() as connection, TemporaryDirectory() as folder:
        fill(connection, answer.to_dicts(), answer.columns)
        made = Path(folder, "rows")
        connection.execute(f"COPY runs TO {literal(made)} ({options})")
        return made.read_bytes()


def _rows_kind(columns: Sequence[str], form: Format) -> FileKind:
    """Return what a file of rows is: one whose columns are these, or some of them, or these and more."""

    def is_one(path: Path) -> bool:
        reader = {"parquet": "read_parquet({})", "json": "read_json({})"}.get(form, "read_csv({}, header = true)")
        with duckdb.connect() as connection:
            found = connection.execute(f"DESCRIBE SELECT * FROM {reader.format(literal(path))}").fetchall()
        names = {name for name, *_ in found}
        return names <= set(columns) or names >= set(columns)

    return FileKind(f"a file of rows with these columns, as {form}", is_one)
