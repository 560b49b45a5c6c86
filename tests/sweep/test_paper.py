"""The files of the paper's tables, and the command that runs them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from support import Run, check_failure

from robustprune.data.registry import locate
from robustprune.sweep.paper import TABLES, read_table

# Networks of each table, without the dense ones: what the paper's rows and columns come to, three seeds each.
NETWORKS = {
    "table1": 5 * 5 * 3,  # criteria, rewinding points
    "table2": 2 * 5 * 3,  # criteria, numbers of blocks
    "table3": 3 * 2 * 3,  # layers and two ways to take filters, criteria
    "table4": (3 + 4) * 3,  # numbers of blocks of both networks
    "table5": (3 + 4) * 3,
}


BOTH_DEPTHS = ("table4", "table5")


def _small(table: str) -> int:
    """The small scale is about ResNet32 alone."""
    return NETWORKS[table] - (4 * 3 if table in BOTH_DEPTHS else 0)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("scale", ["small", "paper"])
def test_table_has_the_networks_of_the_papers_and_their_dense_ones(table: str, scale: str) -> None:
    runs = read_table(table, scale).runs  # type: ignore[arg-type]
    counts = Counter(run.is_dense for run in runs)
    models = {run.model for run in runs}
    assert models == {"resnet32"} | ({"resnet56"} if scale == "paper" and table in BOTH_DEPTHS else set())
    assert counts == {False: NETWORKS[table] if scale == "paper" else _small(table), True: 3 * len(models)}
    assert {run.data.name for run in runs} == {"cifar10" if scale == "paper" else "fashion-mnist"}
    assert {run.recipe.name for run in runs} == {"paper" if scale == "paper" else "quick"}


def test_a_table_may_have_a_small_file_of_its_own() -> None:
    limits = {table: {run.evaluate.limit for run in read_table(table, "small").runs} for table in TABLES}
    assert limits == {table: {1000 if table == "table5" else 5000} for table in TABLES}
    # What the user lays over it has the last word.
    assert {run.evaluate.limit for run in read_table("table5", "small", [], ["evaluate.limit=7"]).runs} == {7}


def test_unknown_table_is_refused(run: Run) -> None:
    check_failure(run("reproduce", "tabel2", "--out", "out"), 2, "'table2'")


def test_missing_images_are_said_before_anything_is_made(run: Run, tmp_path: Path) -> None:
    if locate("cifar10", None):
        pytest.skip("CIFAR-10 is on this machine")
    check_failure(run("reproduce", "table2", "--scale", "paper", "--out", "out"), 1, "cifar10", "--download")
    assert not (tmp_path / "out").exists()


TINY = {
    "model_options": "{width: 4}",
    "data": "{name: digits, train_limit: 200, image_size: null}",
    "recipe.epochs": "8",
    "recipe.batch_size": "64",
    "country": "null",
    "evaluate.limit": "50",
}
SETTINGS = [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_dry_run_of_every_table(run: Run, table: str) -> None:
    found = run("reproduce", table, "--out", "out", "--dry-run", "--json", *SETTINGS).json
    assert len(found["runs"]) == _small(table) + 3
    assert not any(each["done"] for each in found["runs"])
    assert found["seconds"] > 0


@pytest.mark.slow
def test_table_two_is_run_and_drawn(run: Run, tmp_path: Path) -> None:
    few = ["--set", "grid={pruning.criterion: [snip, grasp], pruning.blocks: [1, 2], seed: [0, 1]}", "--workers", "2"]
    drawn = run("reproduce", "table2", "--out", "out", *SETTINGS, *few)
    assert drawn.code == 0, drawn.err
    for ticket in ("layer snip 1", "layer snip 2", "layer grasp 1", "layer grasp 2"):
        assert ticket in drawn.out
    (path,) = run("reproduce", "table2", "--out", "out", "--json", *SETTINGS, *few).json["comparisons"]
    rows = [row for row in json.loads(Path(path).read_text())["rows"] if row["metric"] == "accuracy"]
    assert {(row["candidate"], row["n_seeds"]) for row in rows} == {
        (f"layer {criterion} {blocks}", 2) for criterion in ("snip", "grasp") for blocks in (1, 2)
    }
