"""Rounds of scoring and removing: as one shot where scores do not change, and as a plain loop where they do."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support import TINY, Run, check_failure
from transformer_networks import transformer

import robustprune as rp
from robustprune.data import ImageData
from robustprune.errors import PruningError
from robustprune.report.grouping import name_method
from robustprune.sweep import run_here
from robustprune.sweep.resolve import plan_runs
from robustprune.sweep.settings import RunSettings
from robustprune.sweep.sweeping import Evaluated
from robustprune.tickets.finding import cut_in_rounds
from robustprune.tickets.requests import Pruning
from robustprune.tickets.ticket import Ticket, load_ticket


@pytest.fixture(scope="module")
def network(few_digits: ImageData) -> torch.nn.Module:
    return rp.build_model("resnet20", few_digits, width=2, seed=2)


@pytest.mark.filterwarnings("ignore::robustprune.errors.PruningWarning")  # l1 ranks by stage
@pytest.mark.parametrize("criterion", ["random", "l1"])
@pytest.mark.parametrize("choice", ["lowest", "highest"])
def test_rounds_of_scores_that_do_not_change_are_one_shot(
    network: torch.nn.Module, few_digits: ImageData, criterion: str, choice: str
) -> None:
    dense = Ticket.from_model(network, few_digits)
    asked = Pruning(criterion=criterion, rounds=3, blocks_per_round=1, choice=choice).check()
    assert asked.schedule == (1, 1, 1)
    found = cut_in_rounds(dense, few_digits, asked, seed=5)
    scores = rp.score_blocks(network, few_digits, criterion, seed=5)
    once = rp.prune_layers(network, scores, blocks=3, choice=choice)  # type: ignore[arg-type]
    assert list(found.plan.removed) == list(once.plan.removed)
    assert found.sha256 == once.sha256
    assert [len(plan.removed) for plan in found.plan.earlier] == [1, 2]


@pytest.mark.parametrize("unit", ["attention", "mlp"])
def test_so_are_rounds_of_branches(unit: str) -> None:
    images = torch.arange(6 * 3072).reshape(6, 3, 32, 32).to(torch.uint8)
    data = rp.as_data(train=(images, torch.arange(6) % 3))
    network = transformer("own")
    asked = Pruning(criterion="random", blocks=2, rounds=2, unit=unit, eligibility="identity")
    found = cut_in_rounds(Ticket.from_model(network, data), data, asked, seed=1)
    scores = rp.score_blocks(network, data, "random", seed=1, unit=unit)  # type: ignore[arg-type]
    once = rp.prune_layers(network, scores, blocks=2, eligibility="identity")
    assert list(found.plan.removed) == list(once.plan.removed)
    assert found.sha256 == once.sha256


def test_rounds_score_what_the_round_before_has_left(network: torch.nn.Module, few_digits: ImageData) -> None:
    asked = Pruning(criterion="snip", blocks=3, rounds=2)
    assert asked.schedule == (2, 1)
    found = cut_in_rounds(Ticket.from_model(network, few_digits), few_digits, asked, seed=0)
    first = rp.prune_layers(network, rp.score_blocks(network, few_digits, "snip"), blocks=2)
    scores = rp.score_blocks(first.network, few_digits, "snip")
    assert found.scores == scores
    assert list(found.plan.removed) == list(rp.prune_layers(first, scores, blocks=1).plan.removed)
    assert list(found.plan.removed)[:2] == list(first.plan.removed)


@pytest.mark.parametrize(
    ("asked", "schedule"),
    [
        ({"blocks": 5}, (5,)),
        ({"blocks": 5, "rounds": 2}, (3, 2)),
        ({"blocks": 5, "blocks_per_round": 2}, (2, 2, 1)),
        ({"rounds": 2, "blocks_per_round": 2}, (2, 2)),
        ({"blocks": ["layer1.1"]}, ()),
    ],
)
def test_how_many_go_in_each_round(asked: dict[str, Any], schedule: tuple[int, ...]) -> None:
    criterion = None if asked.get("blocks") == ["layer1.1"] else "snip"
    assert Pruning(criterion=criterion, **asked).check().schedule == schedule


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"blocks": 2, "rounds": 3}, "2 blocks cannot go in 3 rounds"),
        ({"blocks": 4, "rounds": 3, "blocks_per_round": 2}, "4 blocks cannot go in 3 rounds of 2"),
        ({"rounds": 3}, "needs blocks, a budget, or rounds with blocks_per_round"),
        ({"budget": "macs<=60%", "rounds": 2}, "leave them out, or a budget"),
        ({"blocks": 2, "fine_tune_epochs": 1}, "between two rounds, and there is one"),
        ({"method": "weight", "sparsity": 0.5, "blocks_per_round": 1}, "belongs to blocks and filters"),
    ],
)
def test_rounds_that_cannot_be(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(PruningError, match=said):
        Pruning(criterion="snip", **asked).check()


def test_the_command_line_goes_in_rounds(run: Run) -> None:
    how = ["prune", *TINY, "--criterion", "random", "--out", "t.pt"]
    found = run(*how, "--rounds", "2", "--blocks-per-round", "1", "--json").json
    once = run(*how, "--blocks", "2", "--json").json
    assert (found["rounds"], once["rounds"]) == (2, 1)
    assert found["removed"] == once["removed"]
    assert len(found["scores"]) == len(once["scores"]) - 1
    assert "of the last of 2 rounds" in run(*how, "--rounds", "2", "--blocks", "2").out
    for given, code, words in (
        (["--rounds", "3", "--blocks", "2"], 1, "2 blocks cannot go in 3 rounds"),
        (["--rounds", "3"], 2, "Missing option '--blocks'"),
        (["--method", "filter", "--filters", "2", "--rounds", "2"], 2, "belongs to --method layer or joint or weight"),
    ):
        check_failure(run(*how, *given), code, words)


SETTINGS: dict[str, Any] = {
    "model": "resnet20",
    "model_options": {"width": 2},
    "recipe": {"epochs": 2, "batch_size": 64},
    "evaluate": {"limit": 50},
    "country": None,
}


def sweep_run(**asked: Any) -> RunSettings:
    return RunSettings(**SETTINGS, pruning=Pruning(criterion="snip", **asked).check())


def stage_kinds(data: ImageData, *runs: RunSettings) -> Counter[str]:
    plan, _ = plan_runs(runs, data)
    return Counter(stage.kind for stage in plan.stages.values())


def test_rounds_are_stages_that_sweeps_share(few_digits: ImageData) -> None:
    in_rounds = [sweep_run(rounds=rounds, blocks_per_round=1, fine_tune_epochs=1) for rounds in (2, 3)]
    assert stage_kinds(few_digits, *in_rounds) == {"score": 3, "prune": 3, "tune": 2, "train": 2, "evaluate": 2}
    assert stage_kinds(few_digits, sweep_run(blocks=2, rounds=2))["tune"] == 0
    one = plan_runs([sweep_run(blocks=2)], few_digits)[1]
    assert one == plan_runs([sweep_run(blocks=2, rounds=1)], few_digits)[1]
    assert one != plan_runs([sweep_run(blocks=2, rounds=2)], few_digits)[1]


def evaluated(data: ImageData, folder: Path, *runs: RunSettings) -> list[Evaluated]:
    return run_here("rounds", list(runs), data, folder, None)


def test_it_is_what_a_loop_comes_to(few_digits: ImageData, tmp_path: Path) -> None:
    asked = sweep_run(rounds=2, blocks_per_round=1, fine_tune_epochs=1)
    (found,) = evaluated(few_digits, tmp_path, asked)
    ticket = load_ticket(found.ticket)
    network = rp.build_model("resnet20", few_digits, width=2, seed=0)
    recipe = rp.Recipe("quick", epochs=1, batch_size=64)
    first = rp.prune_layers(network, rp.score_blocks(network, few_digits, "snip"), blocks=1)
    tuned = rp.train(first, few_digits, recipe, country=None)
    second = rp.prune_layers(tuned, rp.score_blocks(tuned.network, few_digits, "snip"), blocks=1)
    whole = rp.Recipe("quick", epochs=2, batch_size=64)
    trained = rp.train(rp.rewind(second, network, 0), few_digits, whole, country=None)
    assert set(ticket.plan.removed) == set(second.plan.removed)
    assert ticket.sha256 == trained.sha256
    assert [each["epochs"] for each in ticket.earlier_training] == [1]
    assert name_method(found.read()) == "layer ticket (snip, 2 blocks, 2 rounds, rewound to 0)"


def test_interrupted_rounds_come_to_the_same_ticket(few_digits: ImageData, tmp_path: Path) -> None:
    asked = sweep_run(rounds=2, blocks_per_round=1, fine_tune_epochs=1)
    (wanted,) = evaluated(few_digits, tmp_path / "undisturbed", asked)
    interrupted = 0
    for allowed in range(4, 100, 2):
        told = iter(range(allowed))

        def tell(*_: object, told: Iterator[int] = told) -> None:
            if next(told, None) is None:
                raise KeyboardInterrupt

        try:
            (found,) = run_here("rounds", [asked], few_digits, tmp_path / "interrupted", tell)
            break
        except KeyboardInterrupt:
            interrupted += 1
    assert interrupted > 3
    assert load_ticket(found.ticket).sha256 == load_ticket(wanted.ticket).sha256
    left = [path.name for path in (tmp_path / "interrupted" / "work").glob("*")]
    assert left == []


@pytest.mark.slow
def test_filters_go_in_rounds_that_match_those_of_blocks(few_digits: ImageData, tmp_path: Path) -> None:
    how = {"rounds": 2, "blocks_per_round": 1, "fine_tune_epochs": 1}
    runs = [sweep_run(**how), sweep_run(method="filter", match_by="macs", **how)]
    layers, filters = (load_ticket(each.ticket) for each in evaluated(few_digits, tmp_path, *runs))
    assert filters.plan.match is not None
    assert set(filters.plan.match.removed) == set(layers.plan.removed)
    (earlier,) = filters.plan.earlier
    assert earlier.match is not None
    assert len(earlier.match.removed) == 1
    for name, gone in earlier.removed_filters.items():
        assert set(gone) <= set(filters.plan.removed_filters[name])


@pytest.mark.slow
def test_a_lottery_that_is_killed_comes_to_the_same_ticket(tmp_path: Path) -> None:
    how = [sys.executable, "-m", "robustprune", "lottery", *TINY, "--train-limit", "300", "--epochs", "3", "--json"]
    how += ["--criterion", "snip", "--rounds", "3", "--blocks-per-round", "1", "--fine-tune-epochs", "3"]
    how += ["--no-energy", "--threads", "1", "--device", "cpu"]

    def ticket(out: str) -> str:
        done = subprocess.run([*how, "--out", str(tmp_path / out)], capture_output=True, text=True, check=True)
        (row,) = json.loads(done.stdout)["tickets"]
        assert (row["blocks"], row["rounds"], row["fine_tune_epochs"]) == (3, 3, 3)
        return str(row["seeds"]["0"]["sha256"])

    chooser, killed = random.Random(20230130), 0
    for attempt in range(8):
        process = subprocess.Popen([*how, "--out", str(tmp_path / "killed")], stdout=-3, stderr=-3)
        try:
            process.wait(timeout=chooser.uniform(4, 6 + 2 * attempt))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
    assert killed >= 3
    assert ticket("killed") == ticket("undisturbed")
