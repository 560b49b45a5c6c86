"""A table is built by a sweep, and its networks are those of any other sweep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import TWO_STAGES, Run, check_failure

from robustprune.comparison.compared_networks import read_networks
from robustprune.comparison.difference import estimate_difference
from robustprune.comparison.sources import find_records
from robustprune.errors import TableError
from robustprune.sweep import Store, read_sweep, run_sweep
from robustprune.sweep.document import read_document
from robustprune.tables.table_building import build_table, retrain
from robustprune.tables.table_spec import TableSpec, read_spec
from robustprune.tables.ticket_comparison import compare_tickets
from robustprune.tables.ticket_table import TicketTable, blocks_of, load_table

SPEC: dict[str, Any] = {
    "name": "tiny/digits",
    "data": {"name": "digits", "train_limit": 100},
    "recipe": {"name": "quick", "epochs": 1},
    "country": None,
    "seeds": 3,
    "evaluate": {"limit": 40, "attacks": {"names": ["fgsm"], "epsilons": [0.05]}, "corruptions": ["fog"]},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("table")
    (home / "net.py").write_text(TWO_STAGES)
    (home / "spec.yaml").write_text(json.dumps(SPEC | {"model": f"file:{home / 'net.py'}:Net"}))
    return home


def spec_of(home: Path, **changes: Any) -> TableSpec:
    return read_spec(read_document(home / "spec.yaml") | changes, "spec.yaml")


@pytest.fixture(scope="module")
def table(home: Path) -> TicketTable:
    state = build_table(spec_of(home), home / "runs", home / "tiny.parquet", workers=1)
    assert not state.failed
    return load_table(home / "tiny.parquet")


@pytest.mark.slow
def test_every_ticket_of_every_seed_is_there_once(table: TicketTable) -> None:
    # Of each stage's three blocks the first stays, and of the others one at most goes: three choices, twice.
    for seed in (0, 1, 2):
        own = [blocks_of(row) for row in table.rows if row["seed"] == seed]
        assert len(own) == len(set(own)) == 9
    assert {row["kept"] for row in table.rows} == {"3-3", "2-3", "3-2", "2-2"}
    assert len({row["sha256"] for row in table.rows}) == 27


@pytest.mark.slow
def test_shares_are_those_of_the_outcomes(table: TicketTable) -> None:
    for row in table.rows:
        for name, metric in (("clean", "accuracy"), ("fgsm_linf_0_05", "fgsm_linf_0_05"), ("fog", "fog")):
            assert np.mean(table.outcomes(row, name)) == pytest.approx(row[metric])


@pytest.mark.slow
def test_the_dense_networks_are_those_of_a_sweep(home: Path, table: TicketTable) -> None:
    (home / "dense.yaml").write_text("grid: {seed: [0, 1, 2]}\npruning: dense")
    settings = [f"{name}={json.dumps(value)}" for name, value in read_document(home / "spec.yaml").items()
                if name not in ("name", "seeds")]  # fmt: skip
    state = run_sweep(read_sweep(home / "dense.yaml", settings=settings), home / "sweep", workers=1)
    records = [json.loads(Store(home / "sweep").record(run.stage).read_text()) for run in state.plan.runs]
    dense = [row for row in table.rows if row["method"] == "dense"]
    assert [row["sha256"] for row in dense] == [record["model"]["sha256"] for record in records]
    assert [row["accuracy"] for row in dense] == [record["clean"]["accuracy"] for record in records]


@pytest.mark.slow
def test_differences_are_those_of_the_records(home: Path, table: TicketTable) -> None:
    """As `compare` reads the outcomes of every image from the records of the sweep."""
    removed = "network.stages.0.1, network.stages.1.2"
    by_ticket: dict[str, list[Path]] = {}
    for path in find_records(home / "runs"):
        by_ticket.setdefault(", ".join(json.loads(path.read_text())["model"]["removed"]), []).append(path)
    dense, own = ([network.values for network in read_networks("", by_ticket[name])] for name in ("", removed))
    columns = {"accuracy": "accuracy", "robust_accuracy": "fgsm_linf_0_05", "corruption_accuracy": "fog"}
    every = compare_tickets(table, list(columns.values()), by="ticket")
    found = {each.metric: each for each in every if each.candidate == f"without {removed}"}
    for metric in dense[0]:
        if metric.kind in columns:
            expected = estimate_difference(
                [each[metric] for each in dense], [each[metric] for each in own], paired=True
            )
            compared = found[columns.pop(metric.kind)]
            assert compared.difference == pytest.approx(expected.difference)
            assert compared.interval == pytest.approx(expected.interval())
            assert compared.p_value == pytest.approx(expected.p_value)
    assert not columns


@pytest.mark.slow
def test_any_network_is_trained_anew(home: Path, table: TicketTable) -> None:
    found = retrain(table, ["network.stages.1.2", "network.stages.0.1"], 1, home / "check")
    assert found["is_same"]
    assert found["now"] == found["table"]
    assert retrain(table, [], 0, home / "check")["is_same"]
    with pytest.raises(TableError, match="no ticket of seed 0 without network"):
        retrain(table, ["network.stages.0.0"], 0, home / "check")


@pytest.mark.slow
def test_a_second_call_trains_nothing(home: Path, table: TicketTable) -> None:
    before = (home / "tiny.parquet").read_bytes()
    state = build_table(spec_of(home), home / "runs", home / "tiny.parquet", workers=1)
    assert not state.seconds
    assert load_table(home / "tiny.parquet").rows == table.rows
    assert before


def test_of_each_profile_one_ticket_is_drawn_by_the_seed(home: Path) -> None:
    spec = spec_of(home, tickets="profiles", seeds=30)
    drawn = [list(spec.subsets(seed)) for seed in range(30)]
    assert all(len(each) == 3 for each in drawn)  # but the dense network
    assert drawn == [list(spec.subsets(seed)) for seed in range(30)]
    assert {subset for each in drawn for subset in each if len(subset) == 1} == {
        (f"network.stages.{stage}.{place}",) for stage in (0, 1) for place in (1, 2)
    }


def test_filter_tickets_match_one_ticket_of_equal_profile(home: Path) -> None:
    runs = spec_of(home, filters={"profiles": [[2, 3]], "match_by": ["macs"]}).sweep().runs
    filters = [run.pruning for run in runs if run.pruning.method == "filter"]
    assert [each.match_by for each in filters] == ["macs"] * 3
    assert {each.blocks for each in filters} == {("network.stages.0.1",)}
    with pytest.raises(TableError, match=r"no ticket keeps \(1, 3\) blocks"):
        spec_of(home, filters=[[1, 3]]).sweep()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pruning": {"method": "dense"}}, "pruning differs from ticket to ticket"),
        ({"seed": 3}, "seed differs from ticket to ticket"),
        ({"name": "tiny"}, "name"),
        ({"tickets": "all"}, "tickets"),
    ],
)
def test_specs_that_make_no_sense_are_refused(home: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(TableError, match=said):
        spec_of(home, **changes)


@pytest.mark.slow
def test_the_command_line(home: Path, table: TicketTable, run: Run) -> None:
    file = str(home / "tiny.parquet")
    assert run("table", "show", file, "--json").json["name"] == table.name
    best = run("table", "best", file, "--budget", "macs<=100%", "--json").json
    assert {each["kept"] for each in best} == {"3-3", "2-3", "3-2", "2-2"}
    (rank,) = run("table", "rank", file, "--criterion", "snip", "--json").json
    assert rank["percentile"]["mean"] >= 0
    assert run("table", "query", file, "--where", "kept = '2-2'", "--json").json
    (predicted,) = run("table", "predict", file, "--json").json
    assert predicted["profile"] + predicted["blocks"] + predicted["seed"] + predicted["rest"] == pytest.approx(1)
    asked = ["--remove", "network.stages.0.1", "--seed", "1", "--folder", str(home / "check")]
    done = run("table", "check", file, *asked, "--json")
    assert done.json["is_same"]
    assert "tiny/digits" in run("table", "show", file).out
    check_failure(run("table", "rank", "nope", "--criterion", "snip"), 1, "no table called 'nope'")
    check_failure(run("table", "best", file, "--metric", "acuracy"), 1, "Did you mean 'accuracy'")


@pytest.mark.parametrize(
    "file", sorted(Path(__file__).parents[2].glob("examples/tables/*.yaml")), ids=lambda path: path.stem
)
def test_the_examples_are_tables(file: Path) -> None:
    spec = read_spec(read_document(file), file.name)
    runs = spec.sweep().runs
    dense = [run for run in runs if run.is_dense]
    assert len(dense) == spec.seeds
    assert len(runs) > 8 * spec.seeds
    assert all(run.evaluate.attacks.names and run.evaluate.corruptions.names and run.evaluate.ood.sets for run in runs)
