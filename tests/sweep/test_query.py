"""Conditions over the records of a folder, against lists of Python's own."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import time
import warnings
from pathlib import Path

import duckdb
import pytest
from query_folder import RECORD, fill
from support import Run, check_failure

from robustprune.errors import EvaluationError, RecordWarning
from robustprune.sweep import Store
from robustprune.sweep.query import load_rows, query
from robustprune.sweep.query.record_rows import flatten
from robustprune.sweep.query.trackers import key_of, tracked_run


def test_row_of_a_record_by_hand() -> None:
    row = flatten(RECORD)
    wanted = {
        "method": "layer", "criterion": "grasp", "blocks": 2, "removed": "stage1.1, stage2.1", "rewind": "0", "seed": 4,
        "accuracy": 0.9, "macs": 20, "training_epochs": 5, "training_energy_kwh": None, "pgd_linf_8_255": 0.5,
        "pgd_l2_0_5": None, "corruption_mean_error": 0.3, "fog": 0.7, "shift_cifar10_2_gap": 0.1,
        "noise_knn_auroc": 0.99,
    }  # fmt: skip
    assert {name: row[name] for name in wanted} == pytest.approx(wanted)
    assert all(name.isidentifier() for name in row)
    # As networks are paired by compare: by the seed of their training, where it is another one.
    trained = {**RECORD["model"], "training": {"seed": 7}}
    assert flatten({**RECORD, "model": trained})["seed"] == 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("runs")
    fill(made, 20)
    return made


def test_condition_holds_for_what_a_list_says(folder: Path) -> None:
    rows = load_rows(folder)
    found = query(rows, "criterion=='grasp' and blocks>=3", ["run", "seed"], order="seed")
    assert found.columns == ["run", "seed"]
    assert found.rows == [(f"run {i}", i) for i in range(20) if i % 2 == 0 and i % 5 + 1 >= 3]
    assert len(query(rows).rows) == 20
    assert query(rows).columns == ["run", "accuracy", "corruption_mean_accuracy", "pgd_linf_8_255", "pgd_l2_0_5"]
    assert query(rows, "option_batches = 1 and train_epochs = 3 and sweep = 'mine'", ["count(*) as n"]).rows == [(20,)]


def test_a_function_of_a_column_makes_no_groups(folder: Path) -> None:
    rows = load_rows(folder)
    found = query(rows, None, ["run", "round(100 * accuracy, 1) as percent"], order="run")
    expected = sorted((row["run"], pytest.approx(round(100 * row["accuracy"], 1))) for row in rows)
    assert found.rows == expected
    (mean,) = query(rows, None, ["round(100 * AVG(accuracy), 1) as percent"]).rows
    assert mean == (pytest.approx(100 * sum(row["accuracy"] for row in rows) / len(rows), abs=0.051),)


def test_aggregates_are_grouped_by_the_plain_columns(folder: Path) -> None:
    found = query(load_rows(folder), None, ["criterion", "avg(accuracy) as mean"], order="criterion")
    even = [number / 20 for number in range(0, 20, 2)]
    odd = [number / 20 for number in range(1, 20, 2)]
    assert found.rows == [("grasp", pytest.approx(sum(even) / 10)), ("snip", pytest.approx(sum(odd) / 10))]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("crterion == 'grasp'", ["no column 'crterion'", "'criterion'"]),
        ("blocks >=", ["syntax error"]),
        ("blocks > 1; drop table runs", ["semicolon"]),
        ("blocks > (select count(*) from read_csv('/etc/hostname'))", ["file system operations are disabled"]),
        ("blocks > (select count(*) from '/etc/hostname')", ["file system operations are disabled", "not exist"]),
    ],
)
def test_what_cannot_be_answered_is_one_clear_line(run: Run, folder: Path, where: str, words: list[str]) -> None:
    outcome = run("query", str(folder), "--where", where)
    check_failure(outcome, 1)
    assert any(word in outcome.err for word in words), outcome.err


def test_formats_hold_the_same(run: Run, folder: Path, tmp_path: Path) -> None:
    asked = ("query", str(folder), "--where", "blocks == 2", "--columns", "run, accuracy", "--order", "seed")
    found = run(*asked, "--format", "json").json
    assert found == [{"run": f"run {i}", "accuracy": i / 20} for i in (1, 6, 11, 16)]
    read = list(csv.DictReader(io.StringIO(run(*asked, "--format", "csv").out)))
    assert [(each["run"], float(each["accuracy"])) for each in read] == [
        (each["run"], each["accuracy"]) for each in found
    ]
    for form in ("csv", "json", "parquet"):
        assert run(*asked, "--format", form, "--out", f"out.{form}").code == 0
    assert json.loads((tmp_path / "out.json").read_text()) == found
    there = duckdb.sql(f"SELECT * FROM '{tmp_path / 'out.parquet'}'").fetchall()
    assert there == duckdb.sql(f"SELECT * FROM '{tmp_path / 'out.csv'}'").fetchall()
    assert there == [(each["run"], each["accuracy"]) for each in found]
    assert sorted(os.listdir(tmp_path)) == ["out.csv", "out.json", "out.parquet"]
    drawn = run(*asked)
    assert "4 of 20 rows" in drawn.out
    assert len(run("query", str(folder), "--columns", "all", "--json").json[0]) > 30


def test_every_value_is_one_that_json_can_hold(run: Run, folder: Path) -> None:
    asked = [
        "blocks * 0.5 as half",
        "corr(blocks, n) as nothing",
        "[blocks * 0.5] as listed",
        "date '2026-01-02' as day",
    ]
    found = run("query", str(folder), "--where", "blocks == 3", "--columns", ",".join(asked), "--json").json
    assert found == [{"half": 1.5, "nothing": None, "listed": [1.5], "day": "2026-01-02"}]
    assert "1.5" in run("query", str(folder), "--where", "blocks == 3", "--columns", "blocks * 0.5").out


def test_usage(run: Run, folder: Path) -> None:
    check_failure(run("query", str(folder), "--format", "parquet"), 2, "--out")
    check_failure(run("query", str(folder), "--out", "a.csv"), 2, "--format")
    check_failure(run("query", "nowhere"), 1, "there is no folder nowhere")


def test_plain_folder_of_records_can_be_asked_too(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="there is no record"):
        load_rows(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps(RECORD))
    (tmp_path / "other.json").write_text('{"something": "else"}')
    ((row,),) = [load_rows(tmp_path)]
    assert (row["run"], row["criterion"], row["seed"]) == ("a", "grasp", 4)
    (tmp_path / "b.json").write_text("{")
    with pytest.warns(RecordWarning, match=r"b\.json cannot be read"):
        assert load_rows(tmp_path) == [row]
    (tmp_path / "a.json").unlink()
    with pytest.warns(RecordWarning), pytest.raises(EvaluationError, match=r"that can be read: .*b\.json"):
        load_rows(tmp_path)


def test_records_are_read_as_they_are_now_and_nothing_is_left_beside_them(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    before = sorted(tmp_path.rglob("*"))
    first = load_rows(tmp_path)
    changed = Path(first[1]["record"])
    content = json.loads(changed.read_text())
    changed.write_text(json.dumps({**content, "clean": {**content["clean"], "accuracy": 0.123}}))
    assert [row["accuracy"] for row in load_rows(tmp_path)] == [first[0]["accuracy"], 0.123, first[2]["accuracy"]]
    assert sorted(tmp_path.rglob("*")) == before


def test_trackers_are_given_settings_as_settings_and_a_key_that_no_other_run_has(tmp_path: Path, folder: Path) -> None:
    pruned = {**RECORD["model"], "plan": {**RECORD["model"]["plan"], "sparsity": 0.9}}
    for home in ("a/part-of-a-name", "b/part-of-a-name"):
        (tmp_path / home).mkdir(parents=True)
        (tmp_path / home / "same.json").write_text(json.dumps({**RECORD, "model": pruned}))
    rows = load_rows(tmp_path)
    run = tracked_run(rows[0])
    asked = {"seed": 4, "blocks": 2, "n": 100, "sparsity": 0.9, "criterion": "grasp"}
    assert {name: run.settings[name] for name in asked} == asked
    assert not {f"measured/{name}" for name in asked} & run.measured.keys()
    assert run.measured["measured/accuracy"] == 0.9
    assert len({key_of(row) for row in rows}) == 2
    # Of a sweep, by the address, wherever its folder is.
    (first, *_) = load_rows(folder)
    assert key_of(first) == f"run-0-{Path(first['record']).parent.name[-8:]}"


@pytest.mark.slow
def test_thousand_runs_are_asked_in_two_seconds(tmp_path: Path, run: Run) -> None:
    fill(tmp_path / "runs", 1000)
    start = time.process_time()  # not by the clock, which neighbours on the machine slow down
    found = run("query", str(tmp_path / "runs"), "--where", "criterion=='grasp' and blocks>=3", "--json").json
    assert time.process_time() - start < 2
    assert len(found) == 300


DAMAGE: dict[str, bytes] = {
    "cut off": json.dumps(RECORD).encode()[:80],
    "no JSON": b"accuracy: 0.9",
    "no UTF-8": b'{"schema": "\xff"}',
    "nested too deep": b"[" * 100_000,
    "no number": json.dumps(RECORD).replace('"accuracy": 0.9', '"accuracy": NaN').encode(),
    "of another schema": json.dumps({**RECORD, "model": {}}).encode(),
    "of other types": json.dumps({**RECORD, "attacks": 3}).encode(),
}


@pytest.mark.parametrize("damage", [*DAMAGE, "a folder", "nowhere"])
@pytest.mark.parametrize("is_sweep", [False, True])
def test_one_record_that_cannot_be_read_stops_nothing(tmp_path: Path, run: Run, damage: str, is_sweep: bool) -> None:
    fill(tmp_path, 3)
    if not is_sweep:
        (tmp_path / "sweeps" / "mine.json").unlink()
    path = sorted(tmp_path.rglob("record.json"))[1]
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage == "nowhere":
        path.symlink_to("nowhere")
    else:
        path.write_bytes(DAMAGE[damage])
    with pytest.warns(RecordWarning, match=f"left out: .*{re.escape(str(path))}") as caught:
        assert len(load_rows(tmp_path)) == 2
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        done = run("query", str(tmp_path), "--json")
    assert len(done.json) == 2
    assert done.err.startswith("Warning: left out: ")


@pytest.mark.filterwarnings("default::robustprune.errors.RecordWarning")
@pytest.mark.parametrize("damage", ["{", "[]", '{"runs": [1], "stages": {}}', "[" * 100_000])
def test_one_plan_that_cannot_be_read_stops_no_status(tmp_path: Path, run: Run, damage: str) -> None:
    fill(tmp_path, 3)
    (tmp_path / "sweeps" / "a.json").write_text(damage)
    (tmp_path / "sweeps" / "b.json").mkdir()
    found = run("status", str(tmp_path), "--json")
    assert [each["sweep"] for each in found.json] == ["mine"]
    for name in ("a", "b"):
        assert f"left out: {tmp_path}/sweeps/{name}.json is no plan" in found.err
    assert len(run("query", str(tmp_path), "--json").json) == 3


def test_why_a_stage_failed_is_told_as_far_as_it_can_be(tmp_path: Path, run: Run) -> None:
    fill(tmp_path, 3)
    store = Store(tmp_path)
    stage = store.plans()["mine"].stages[next(iter(store.done()))]
    store.record_failure(stage, "no disk", "of caf\udce9")
    assert "no disk" in run("status", str(tmp_path)).err
    store.failure(stage.address).write_text("{")
    found = run("status", str(tmp_path))
    assert found.code == 0
    assert "its file cannot be read" in found.err


@pytest.mark.slow
def test_files_of_other_rows_are_kept(folder: Path, run: Run) -> None:
    for form in ("csv", "json", "parquet"):
        ask = ("query", str(folder), "--format", form, "--out", f"rows.{form}")
        for more in ([], [], ["--columns", "run,accuracy"], ["--columns", "all"]):  # again, fewer columns, all of them
            assert run(*ask, *more).code == 0
        before = Path(f"rows.{form}").read_bytes()
        check_failure(run(*ask, "--columns", "avg(accuracy) as mean"), 1, "would be lost")
        assert Path(f"rows.{form}").read_bytes() == before
    # A file of rows may lie among the records; it is none.
    for _ in range(2):
        assert run("query", str(folder), "--format", "json", "--out", str(folder / "rows.json")).code == 0
    Path("notes.csv").write_text("name,number\nmine,1\n")
    check_failure(run("query", str(folder), "--format", "csv", "--out", "notes.csv"), 1, "would be lost")
    assert Path("notes.csv").read_text() == "name,number\nmine,1\n"
    assert run("query", str(folder), "--format", "csv", "--out", "notes.csv", "--overwrite").code == 0
