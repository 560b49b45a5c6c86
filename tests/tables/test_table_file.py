"""Tables as files: what is written is read, what is damaged is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from robustprune.errors import TableError, UnknownNameError
from robustprune.tables.table_file import checksum, read_table_file, write_table_file
from robustprune.tables.ticket_table import TicketTable, load_table

RIGHT = np.array([[1, 0, 0, 1, 1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]], dtype=bool)
ROWS: list[dict[str, Any]] = [
    {
        "seed": seed,
        "kept": "2-3",
        "removed": "layer1.1, it's",
        "match_by": None,
        "accuracy": 0.1 + seed / 3,
        "right_clean": np.packbits(RIGHT[:1], axis=-1).tobytes(),
        "right_fog": np.packbits(RIGHT, axis=-1).tobytes(),
    }
    for seed in range(3)
]
FACTS = {"name": "net/images", "images": 10, "spec": {"description": 'it\'s "quoted" – ε'}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_table_file(tmp_path / "table.parquet", ROWS, FACTS)
    return tmp_path / "table.parquet"


def test_what_is_written_is_read(file: Path) -> None:
    rows, facts = read_table_file(file)
    assert rows == ROWS
    assert {name: facts[name] for name in FACTS} == FACTS
    assert facts["sha256"] == checksum(ROWS)
    assert facts["rows"] == 3


def test_columns_may_come_in_any_order_and_be_of_some_rows_only(tmp_path: Path) -> None:
    rows = [{"seed": 0, "nll": 1, "ece": 0.5}, {"ece": 0.25, "nll": 0.75, "seed": 1, "brier": 2}]
    write_table_file(tmp_path / "table.parquet", rows, FACTS)
    found, facts = read_table_file(tmp_path / "table.parquet")
    assert found == [{"brier": None, **rows[0]}, rows[1]]
    assert [list(each) for each in found] == [facts["columns"]] * 2 == [["seed", "nll", "ece", "brier"]] * 2


def test_outcomes_come_back_image_by_image(file: Path) -> None:
    table = load_table(file)
    assert np.array_equal(table.outcomes(table.rows[0], "clean"), RIGHT[0])
    assert np.array_equal(table.outcomes(table.rows[0], "fog"), RIGHT)


def test_any_parquet_reader_reads_it(file: Path) -> None:
    types = duckdb.sql(f"DESCRIBE SELECT * FROM read_parquet('{file}')").fetchall()
    assert {name: kind for name, kind, *_ in types} == {
        "seed": "BIGINT", "kept": "VARCHAR", "removed": "VARCHAR", "match_by": "VARCHAR", "accuracy": "DOUBLE",
        "right_clean": "BLOB", "right_fog": "BLOB",
    }  # fmt: skip


def test_another_content_than_the_checksum_says_is_refused(tmp_path: Path, file: Path) -> None:
    duckdb.sql(
        f"""COPY (SELECT * REPLACE (accuracy + 1e-9 AS accuracy) FROM read_parquet('{file}'))
        TO '{tmp_path}/changed.parquet' (FORMAT parquet, KV_METADATA {{'robustprune-table': '{_said(file)}'}})"""
    )
    with pytest.raises(TableError, match="another checksum"):
        read_table_file(tmp_path / "changed.parquet")


def _said(file: Path) -> str:
    found = duckdb.sql(f"SELECT decode(value) FROM parquet_kv_metadata('{file}') WHERE decode(key) LIKE 'robust%'")
    return str(found.fetchall()[0][0]).replace("'", "''")


def test_what_is_no_table_is_refused(tmp_path: Path, file: Path) -> None:
    (tmp_path / "text.parquet").write_text("no parquet")
    (tmp_path / "cut.parquet").write_bytes(file.read_bytes()[:-40])
    duckdb.sql(f"COPY (SELECT 1 AS a) TO '{tmp_path}/other.parquet' (FORMAT parquet)")
    for name in ("text", "cut", "other"):
        with pytest.raises(TableError, match=rf"{name}.parquet is no table of tickets, or is damaged"):
            read_table_file(tmp_path / f"{name}.parquet")
    for name in ("text", "other"):  # a damaged table may be written anew
        with pytest.raises(TableError, match="cannot be written"):
            write_table_file(tmp_path / f"{name}.parquet", ROWS, FACTS)
    with pytest.raises(TableError, match="there is no file"):
        load_table(tmp_path / "missing.parquet")
    with pytest.raises(UnknownNameError, match="no table called 'resnet'"):
        load_table("resnet")


def test_a_notebook_shows_it() -> None:
    rows = [{**row, "method": "layer", "nll": 1.0} for row in ROWS]
    assert "2-3" in TicketTable(rows, FACTS)._repr_html_()
