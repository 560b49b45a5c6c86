"""Whole sweeps of small networks, from the command line."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from essence import essence, leftovers

from robustprune.data import load_data
from robustprune.evaluation import evaluate
from robustprune.evaluation.requests import Evaluation
from robustprune.lottery import run_lottery
from robustprune.models import build_model
from robustprune.pruning import find_blocks, prunable_convolutions, score_blocks, score_filters
from robustprune.records import load_record
from robustprune.sweep import Store
from robustprune.tickets import Ticket, load_ticket, prune_filters, prune_layers
from robustprune.tickets.requests import Pruning
from robustprune.training import Recipe, train

pytestmark = pytest.mark.slow

SMALL: dict[str, Any] = {
    "name": "small",
    "model": "resnet20",
    "model_options": {"width": 4},
    "data": {"train_limit": 200},
    "recipe": {"epochs": 4, "batch_size": 64},
    "country": None,
    "evaluate": {
        "limit": 60,
        "attacks": {"names": "pgd", "steps": 3},
        "corruptions": "fog",
        "ood": {"sets": "noise", "detectors": "msp"},
    },
}


def sweep(folder: Path, document: dict[str, Any], *more: str) -> dict[str, Any]:
    (folder / "sweep.yaml").write_text(yaml.safe_dump(document))
    done = subprocess.run(command(folder, *more), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def command(folder: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "robustprune", "sweep", str(folder / "sweep.yaml"), "--out", str(folder / "out")),
        *("--workers", "2", "--json", *more),
    ]


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_every_method_gives_what_the_single_steps_give(tmp_path: Path) -> None:
    asked = [
        Pruning("layer", criterion="snip", blocks=1),
        Pruning("filter", criterion="snip", blocks=1),
        Pruning("layer", criterion="expected_abs", blocks=1, at_init=False, rewind="50%"),
        Pruning("layer", criterion="expected_abs", blocks=1, at_init=False, rewind="random"),
        Pruning("weight", criterion="magnitude", sparsity=0.5),
    ]
    found = sweep(tmp_path, {**SMALL, "include": [{"pruning": each.model_dump(mode="json")} for each in asked]})
    assert found["finished"] == found["runs"] == 6
    assert leftovers(tmp_path / "out") == []
    (comparison,) = [json.loads(Path(path).read_text()) for path in found["comparisons"]]
    differences = {row["candidate"]: row["difference"] for row in comparison["rows"] if row["metric"] == "accuracy"}
    records = {name: load_record(path) for name, path in found["records"].items()}
    # A lottery in this process finds the same as workers.
    data = load_data("digits", train_limit=200)
    settings: dict[str, Any] = {"model": "resnet20", "model_options": {"width": 4}, "country": None}
    recipe = Recipe("quick", epochs=4, batch_size=64)
    results = run_lottery(tmp_path / "lottery", data, asked, recipe, **settings)
    hashes = {name: record.model.sha256 for name, record in records.items()}
    assert hashes.pop("dense seed 0") == results.dense[0].model.sha256
    assert list(hashes.values()) == [row.records[0].model.sha256 for row in results.rows]
    # By hand, single steps come to the same.
    dense = Ticket.from_model(build_model("resnet20", data, width=4, seed=0), data)
    layer = prune_layers(dense, score_blocks(dense.network, data, "snip", seed=0), blocks=1)
    first = list(prunable_convolutions(dense.network, find_blocks(dense.network)).values())
    cut = prune_filters(dense, score_filters(dense.network, first, data, "snip", seed=0), match=layer)
    for name, ticket in {"layer": layer, "filter": cut}.items():
        train(ticket, data, recipe, seed=0, country=None)
        assert hashes[f"{name} snip 1 seed 0"] == ticket.sha256
    clean = {name.removesuffix(" seed 0"): record.clean.accuracy for name, record in records.items()}
    dense = clean.pop("dense")
    assert differences == pytest.approx({name: 100 * (accuracy - dense) for name, accuracy in clean.items()})
    weights = records["weight magnitude 0.5 seed 0"].model.masks
    assert weights is not None
    assert abs(weights["kept"] / weights["weights"] - 0.5) < 0.01
    # An evaluation is the one that a user would make.
    record = records["layer snip 1 seed 0"]
    assert record.model.path is not None
    own = evaluate(load_ticket(record.model.path), data, Evaluation.of(SMALL["evaluate"]))
    assert own.attacks[0].robust_accuracy == record.attacks[0].robust_accuracy
    assert own.corruptions is not None
    assert record.corruptions is not None
    assert own.corruptions.table == record.corruptions.table
    assert own.ood[0].detectors == record.ood[0].detectors
    assert record.corruptions.dense is not None
    assert record.corruptions.dense.sha256 == results.dense[0].model.sha256


def test_second_call_does_nothing_and_a_further_criterion_is_all_that_is_new(tmp_path: Path) -> None:
    document = {**SMALL, "grid": {"pruning.criterion": ["snip"], "pruning.blocks": [1, 2], "seed": [0, 1]}}
    first = sweep(tmp_path, document)
    assert (first["finished"], first["done_now"]) == (6, first["stages"])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    script = "import sys; from robustprune.cli import main\ntry: main()\nfinally: assert 'torch' not in sys.modules"
    start = processor_seconds()
    again = subprocess.run(
        [sys.executable, "-c", script, *command(tmp_path)[3:]], capture_output=True, text=True, check=True
    )
    assert processor_seconds() - start < 3  # not by the clock, which neighbours on the machine slow down
    assert json.loads(again.stdout)["done_now"] == 0
    assert "AssertionError" not in again.stderr
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    document["grid"]["pruning.criterion"] = ["random", "snip"]
    further = sweep(tmp_path, document)
    # For each seed: scores, and for each of two densities a ticket, its training and its evaluation; one comparison.
    assert further["done_now"] == 2 * (1 + 2 * 3) + 1
    assert further["finished"] == 10
    assert all(path.stat().st_mtime_ns == then for path, then in before.items() if "sweeps" not in path.parts)


def test_weights_that_nobody_had_asked_for_are_made_by_going_back(tmp_path: Path) -> None:
    asked = {"criterion": "expected_abs", "blocks": 1, "at_init": False}
    sweep(tmp_path, {**SMALL, "pruning": asked})
    late = sweep(tmp_path, {**SMALL, "pruning": {**asked, "rewind": 2}})
    (tmp_path / "once").mkdir()
    once = sweep(tmp_path / "once", {**SMALL, "pruning": {**asked, "rewind": 2}})
    names = "layer expected_abs 1 from 2 seed 0"
    first, second = (load_record(found["records"][names]) for found in (late, once))
    assert first.model.sha256 == second.model.sha256


def test_number_of_workers_changes_no_figure(tmp_path: Path) -> None:
    document = {**SMALL, "grid": {"pruning.criterion": ["snip"], "pruning.blocks": [1, 2]}}
    outcomes = []
    for workers in ("1", "2"):
        home = tmp_path / workers
        home.mkdir()
        sweep(home, document, "--workers", workers)
        outcomes.append(essence(home / "out"))
    assert outcomes[0] == outcomes[1]


def test_dry_run_writes_nothing_and_says_what_is_shared(tmp_path: Path) -> None:
    found = sweep(tmp_path, {**SMALL, "grid": {"pruning.criterion": ["snip"], "pruning.blocks": [1, 2]}}, "--dry-run")
    assert [(run["name"], run["done"], run["stages_left"]) for run in found["runs"]] == [
        ("dense seed 0", False, 2), ("layer snip 1 seed 0", False, 6), ("layer snip 2 seed 0", False, 6),
    ]  # fmt: skip
    assert {(each["kind"], each["runs"]) for each in found["shared"]} == {("dense", 3), ("evaluate", 3), ("score", 2)}
    assert found["seconds"] > 0
    assert found["disk_bytes"] > 0
    assert not (tmp_path / "out").exists()


def test_interrupted_sweep_ends_with_one_line_and_goes_on(tmp_path: Path) -> None:
    document = {**SMALL, "grid": {"pruning.criterion": ["snip"], "pruning.blocks": [1, 2]}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(document))
    for stop in (signal.SIGINT, signal.SIGTERM):
        # What a shell starts in the background ignores Ctrl-C, and so would what that starts.
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            process = subprocess.Popen(command(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        finally:
            signal.signal(signal.SIGINT, before)
        assert process.stderr is not None
        next(line for line in process.stderr if re.match(r"\d+/", line))  # a stage is done
        process.send_signal(stop)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 1
        assert "Error: interrupted" in said
        assert "Traceback" not in said
    done = len(os.listdir(tmp_path / "out/stages"))
    assert done > 0
    found = sweep(tmp_path, document)
    assert found["finished"] == 3
    assert found["done_now"] == found["stages"] - done
    assert leftovers(tmp_path / "out") == []
    assert Store(tmp_path / "out").failed() == set()
