"""Distances to the boundary on record: one search for all budgets, the median with its interval, those of samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import Run

from robustprune.attacks.requests import Attacks
from robustprune.comparison import compare
from robustprune.data import ImageData
from robustprune.errors import AttackError
from robustprune.evaluation import evaluate
from robustprune.metrics import resampled_medians
from robustprune.metrics.detection import bootstrap_counts
from robustprune.models import build_model
from robustprune.records import load_record
from robustprune.tickets.ticket import Ticket
from robustprune.training import train


@pytest.fixture(scope="module")
def ticket(digits: ImageData) -> Ticket:
    ticket = Ticket.from_model(build_model("resnet20", digits, width=4), digits)
    return train(ticket, digits, epochs=2, country=None)


def test_one_search_fills_the_curve_and_the_distances(ticket: Ticket, digits: ImageData, tmp_path: Path) -> None:
    attacks = Attacks(["fmn", "pgd"], epsilons=["0.1", "0.4", "1"], norm="l2", steps=10)
    record = evaluate(ticket, digits, attacks=attacks, limit=40)
    samples = record.samples
    assert samples is not None
    distances = samples["attack0_distance"]
    assert distances.shape == (40,)
    for place, entry in enumerate(record.attacks[:3]):
        assert entry.valid
        assert entry.robust_accuracy == (distances > entry.epsilon).mean()
        assert np.array_equal(samples[f"attack{place}_distance"], distances)
        assert np.array_equal(samples[f"attack{place}_norm"], np.where(distances <= entry.epsilon, distances, 0))
        assert entry.distance is not None
        ordered = np.sort(distances)
        # Of forty values, those of ranks 14 and 27.
        found = (entry.distance.median, entry.distance.low, entry.distance.high)
        np.testing.assert_allclose(found, (ordered[20], ordered[13], ordered[26]), rtol=1e-6)
    assert [entry.gradient_evaluations > 0 for entry in record.attacks[:3]] == [False, False, True]
    assert record.curves[0].median_minimal_epsilon == pytest.approx(np.sort(distances)[20], rel=1e-6)
    assert record.attacks[3].distance is None
    assert "attack3_distance" not in samples
    assert {entry.name for entry in record.optimality} == {"fmn", "pgd"}
    frame = record.to_frame()
    assert frame[frame.metric == "median_distance"].value.tolist() == [entry.distance.median]
    record.save(tmp_path / "record.json")
    again = load_record(tmp_path / "record.json")
    assert again.attacks == record.attacks
    assert again.optimality == record.optimality
    assert again.samples is not None
    assert np.array_equal(again.samples["attack2_distance"], distances)


def test_others_know_of_no_distance(ticket: Ticket, digits: ImageData) -> None:
    attacks = Attacks(["fmn", "pgd"], epsilons=["0.05"], steps=3, union=True, transfer_from=ticket.model())
    record = evaluate(ticket, digits, attacks=attacks, limit=20)
    assert [entry.distance for entry in record.attacks] == [None, None]


def test_what_cannot_be_is_found_out_first(ticket: Ticket, digits: ImageData) -> None:
    for asked in (Attacks(["pgd", "fmn"], eot=3), Attacks(["pgd", "fmn:eot=2"])):
        with pytest.raises(AttackError, match="'fmn' looks for the nearest points"):
            evaluate(ticket, digits, attacks=asked, limit=5)


def test_the_command_line_prints_the_median(ticket: Ticket, tmp_path: Path, run: Run) -> None:
    ticket.save(tmp_path / "ticket.pt")
    model = ("--model", str(tmp_path / "ticket.pt"), "--limit", "30")
    arguments = ("evaluate", *model, "--attack", "fmn:steps=8", "--eps", "1,3", "--norm", "l0")
    done = run(*arguments, "--json")
    first, second = done.json["attacks"]
    assert first["distance"] == second["distance"]
    median = first["distance"]["median"]
    assert f"in l0: median distance {median:.4g}, 95 % interval" in run(*arguments).out


def test_medians_are_compared_image_by_image(ticket: Ticket, digits: ImageData) -> None:
    attacks = Attacks("fmn", epsilons=["0.5"], norm="l2", steps=10)
    dense = evaluate(ticket, digits, attacks=attacks, limit=60)
    assert dense.samples is not None
    farther = dense.model_copy(deep=True)
    assert farther.samples is not None
    assert farther.attacks[0].distance is not None
    farther.samples["attack0_distance"] = dense.samples["attack0_distance"] + np.float32(0.25)
    farther.attacks[0].distance.median = (farther.attacks[0].distance.median or 0) + 0.25
    row = next(row for row in compare([dense], {"farther": [farther]}).rows if row.metric == "median_distance[fmn L2]")
    assert (row.group, row.unit, row.n_samples) == ("distance", "", 60)
    assert row.difference == pytest.approx(0.25, rel=1e-6)
    # Each image is as much farther away as any other, so whichever are drawn make no difference.
    assert row.interval == pytest.approx((0.25, 0.25), abs=1e-5)
    assert row.verdict == "better"


def test_an_unknown_median_is_not_compared(ticket: Ticket, digits: ImageData) -> None:
    dense = evaluate(ticket, digits, attacks=Attacks("fmn", epsilons=["0.5"], norm="l2", steps=10), limit=40)
    assert dense.samples is not None
    assert dense.attacks[0].distance is not None
    out_of_reach = dense.model_copy(deep=True)
    assert out_of_reach.samples is not None
    out_of_reach.samples["attack0_distance"][:21] = np.inf
    out_of_reach.attacks[0].distance = dense.attacks[0].distance.model_copy(update={"median": None})
    rows = compare([dense], {"out of reach": [out_of_reach]}).rows
    row = next(row for row in rows if row.metric == "median_distance[fmn L2]")
    assert row.verdict is None
    assert "at no distance" in str(row.reason)


def test_resampled_medians_are_those_of_the_drawn_samples() -> None:
    values = np.random.default_rng(0).exponential(size=31)
    values[:3] = np.inf
    drawn = resampled_medians(values, 50, seed=4)
    expected = [np.sort(np.repeat(values, counts))[15] for counts in bootstrap_counts(31, 50, 4)]
    assert np.array_equal(drawn, expected)
