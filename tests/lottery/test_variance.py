"""Sources of variance: which runs tell them apart, and what is made of their figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2
from support import TINY, Run, check_failure
from synthetic_records import make_record

from robustprune.attacks.requests import Attacks
from robustprune.data import ImageData, load_data
from robustprune.errors import PruningError
from robustprune.lottery import find_variance
from robustprune.lottery.variance import Variation
from robustprune.models import build_model
from robustprune.records import Record
from robustprune.sweep import run_here
from robustprune.sweep.resolve import plan_runs
from robustprune.sweep.settings import DataSettings, RunSettings
from robustprune.tickets.requests import Pruning
from robustprune.tickets.ticket import Ticket
from robustprune.training import Recipe, train

EFFECTS = {"initialization": (0.0, 0.02, -0.01), "order": (0.0, 0.01, 0.03), "split": (0.0, -0.005, 0.005)}
"""Of seeds 0, 1 and 2 on accuracy."""
SMALL: dict[str, Any] = {
    "model": "resnet20",
    "model_options": {"width": 4},
    "recipe": Recipe("quick", epochs=1, batch_size=64),
    "data": DataSettings("digits", train_limit=200),
    "pruning": Pruning("dense"),
    "device": "cpu",
    "country": None,
}


@dataclass(frozen=True)
class Additive:
    """An outcome whose accuracy is a sum of effects of its seeds."""

    run: RunSettings

    def read(self) -> Record:
        record = make_record(n=50, attacks=())
        name = f"{self.run.seed} {self.run.order_seed} {self.run.data.seed}"
        record = record.model_copy(update={"model": record.model.model_copy(update={"sha256": name})})
        seeds = {"initialization": self.run.seed, "order": self.run.order_seed or 0, "split": self.run.data.seed}
        accuracy = 0.9 + sum(EFFECTS[source][seed] for source, seed in seeds.items())
        return worse(record, accuracy)


def worse(record: Record, accuracy: float) -> Record:
    return record.model_copy(update={"clean": record.clean.model_copy(update={"accuracy": accuracy})})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[RunSettings]:
    """The runs that were asked for; each has an additive outcome."""
    runs: list[RunSettings] = []

    def additive(_name: str, own: Sequence[RunSettings], *_rest: Any) -> list[Additive]:
        runs.extend(own)
        return [Additive(run) for run in own]

    monkeypatch.setattr("robustprune.lottery.variance.run_here", additive)
    return runs


def test_shares_are_those_of_the_effects(asked: list[RunSettings], tmp_path: Path) -> None:
    found = find_variance(tmp_path, "digits", seeds=range(3), model="resnet20")
    variances = {source: np.var([100 * each for each in effects], ddof=1) for source, effects in EFFECTS.items()}
    shares = found.shares("accuracy")
    assert shares == pytest.approx({source: own / sum(variances.values()) for source, own in variances.items()})
    *parts, together = found.figures["accuracy"]
    assert [each.variance for each in parts] == pytest.approx(list(variances.values()))
    sums = [100 * sum(each) for each in zip(*EFFECTS.values(), strict=True)]
    assert together.variance == pytest.approx(np.var(sums, ddof=1))
    columns, rows = found.table("accuracy")
    assert [row[0] for row in rows] == [*EFFECTS, "sum of these", "all at once"]
    assert all(len(row) == len(columns) for row in rows)
    assert found.sentence("accuracy").startswith(
        "Of the variance of accuracy, 47 % comes from the initial weights, 47 %"
    )


def test_trainings_that_fail_are_said(asked: list[RunSettings], tmp_path: Path) -> None:
    found = find_variance(tmp_path, "digits", seeds=range(3), model="resnet20")
    assert found.warnings == []
    records = dict(found.records)
    records["order"] = (*records["order"][:2], worse(records["order"][2], 0.5))
    (said,) = replace(found, records=records).warnings
    assert said.startswith("1 of 9 networks are more than 10 points below the others")


def test_each_source_varies_alone(asked: list[RunSettings], tmp_path: Path) -> None:
    find_variance(tmp_path, "digits", seeds={"initialization": [0, 1], "split": [0, 2], "order": [1]}, model="resnet20")
    seeds = [(run.seed, run.order_seed, run.data.seed) for run in asked]
    assert seeds == [(0, 1, 0), (1, 1, 0), (0, 1, 0), (0, 1, 2), (0, 1, 0), (1, 1, 2)]


def test_interval_of_a_standard_deviation() -> None:
    values = (91.0, 92.5, 90.0, 93.0, 92.0)
    low, high = Variation("order", values).interval(0.9)
    variance = np.var(values, ddof=1)
    assert (low, high) == pytest.approx([np.sqrt(4 * variance / chi2.ppf(tail, 4)) for tail in (0.95, 0.05)])


@pytest.mark.parametrize(
    ("seeds", "attacks", "words"),
    [
        ({"order": [0], "split": [1]}, None, "nothing varies"),
        ({"attack": [0, 1]}, None, "attack where there is one"),
        ({"weights": [0, 1]}, Attacks("fgsm"), "'weights' cannot be"),
    ],
)
def test_sources_that_cannot_be(tmp_path: Path, seeds: Any, attacks: Attacks | None, words: str) -> None:
    with pytest.raises(PruningError, match=words):
        find_variance(tmp_path, "digits", seeds=seeds, attacks=attacks)


def test_order_has_a_seed_of_its_own(few_digits: ImageData, tmp_path: Path) -> None:
    (outcome,) = run_here("order", [RunSettings(**SMALL, seed=3, order_seed=5)], few_digits, tmp_path)
    ticket = Ticket.from_model(build_model("resnet20", few_digits, width=4, seed=3), few_digits)
    train(ticket, few_digits, SMALL["recipe"], seed=5, country=None)
    assert outcome.read().model.sha256 == ticket.sha256


def test_the_same_order_is_the_same_network() -> None:
    few = load_data("digits", train_limit=200)
    ends = [plan_runs([RunSettings(**SMALL, seed=3, order_seed=order)], few)[1] for order in (None, 3, 4)]
    assert ends[0] == ends[1] != ends[2]


@pytest.mark.slow
def test_command(run: Run) -> None:
    small = ("--train-limit", "200", "--batch-size", "64", "--epochs", "1", "--threads", "1", "--out", "out")
    counts = ("--initialization-seeds", "2", "--order-seeds", "1", "--split-seeds", "2", "--attack-seeds", "2")
    first = run("variance", *TINY, *small, *counts, "--attack", "fgsm")
    assert first.code == 0
    for word in ("Of the variance of accuracy", "under fgsm", "initialization", "sum of these", "all at once"):
        assert word in first.out
    figures = run("variance", *TINY, *small, *counts, "--attack", "fgsm", "--json").json["figures"]
    assert figures["accuracy"].keys() == {"initialization", "split", "attack", "all at once"}
    assert figures["accuracy"]["attack"]["deviation"] == 0
    (standing,) = run("status", "out", "--json").json
    assert (standing["runs"], standing["finished"]) == (5, 5)


def test_wrong_input(run: Run) -> None:
    check_failure(run("variance", *TINY, "--split-seeds", "0", "--out", "out"), 2, "--split-seeds")
    alone = [part for name in ("initialization", "order", "split") for part in (f"--{name}-seeds", "1")]
    check_failure(run("variance", *TINY, *alone, "--out", "out"), 1, "nothing varies")
    assert not Path("out").exists()
