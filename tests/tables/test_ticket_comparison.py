"""Tickets of a table against a reference: on truths that are laid down, and against SciPy's paired test."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_tables import make_table
from scipy.stats import ttest_rel

from robustprune.errors import TableError
from robustprune.report.figures.drawing import save_figures
from robustprune.tables.budget import best_tickets
from robustprune.tables.criterion_rank import rank_criterion
from robustprune.tables.table_figures import draw_criteria, draw_differences, draw_profiles
from robustprune.tables.ticket_comparison import compare_tickets
from robustprune.tables.ticket_table import TicketTable

IMAGES = 400


def noise(*parts: object) -> float:
    return zlib.crc32(repr(parts).encode()) / 2**32 - 0.5


def worth(seed: int, removed: tuple[str, ...]) -> Mapping[str, Any]:
    """Blocks of the first stage cost nothing, each of the second 3 points, those of the third win 3 points in NLL."""
    lost = sum(name.startswith("layer2") for name in removed)
    n_right = round(IMAGES * (0.9 - 0.03 * lost)) + (seed % 3)
    return {
        "accuracy": n_right / IMAGES,
        "nll": 1 - 0.03 * sum(name.startswith("layer3") for name in removed) + 0.01 * noise(seed, removed),
        "noise_msp_auroc": 0.8 + 0.01 * noise(seed, removed),
        "right_clean": np.packbits(np.arange(IMAGES) < n_right).tobytes(),
    }


@pytest.fixture(scope="module")
def table() -> TicketTable:
    made = make_table(worth, seeds=6)
    return TicketTable(made.rows, {**made.facts, "images": IMAGES})


def test_verdicts_are_those_of_the_truth(table: TicketTable) -> None:
    found = {each.candidate: each for each in compare_tickets(table, ["accuracy"])}
    assert {name: each.verdict for name, each in found.items()} == {
        name: "equivalent" if name[2] == "3" else "worse" for name in found
    }
    assert set(found) == {"-".join(kept) for kept in product("23", repeat=3)} - {"3-3-3"}
    assert found["2-3-3"].difference == pytest.approx(0)
    assert found["3-2-3"].difference == pytest.approx(-3)
    assert found["3-2-3"].macs == pytest.approx(0.9)
    nll = {each.candidate: each for each in compare_tickets(table, ["nll"])}
    assert nll["3-3-2"].verdict == "better"
    assert nll["3-3-2"].unit == ""


def test_without_outcomes_the_interval_is_students_over_seeds(table: TicketTable) -> None:
    (found,) = (each for each in compare_tickets(table, ["noise_msp_auroc"], by="ticket")
                if each.candidate == "without layer1.2, layer3.1")  # fmt: skip
    by_seed = [
        [100 * row["noise_msp_auroc"] for row in table.rows if row["removed"] == removed]
        for removed in ("layer1.2, layer3.1", "")
    ]
    expected = ttest_rel(*by_seed)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_a_random_choice_is_the_mean_of_all_of_that_size(table: TicketTable) -> None:
    sizes = {each.candidate: each for each in compare_tickets(table, against="random", by="size")}
    assert set(sizes) == {"1 block", "2 blocks", "3 blocks"}
    assert all(each.difference == pytest.approx(0, abs=1e-9) for each in sizes.values())
    (own,) = (each for each in compare_tickets(table, against="random") if each.candidate == "2-3-3")
    # Of six tickets without one block, two lack one of the second stage.
    assert own.difference == pytest.approx(3 * 2 / 6)


def test_what_a_criterion_picks_is_compared(table: TicketTable, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from robustprune.pruning import Criterion\n\n\n"
        "class Second(Criterion):\n"
        "    def score(self, model, blocks, data, seed):\n"
        "        return {block.name: -float(block.stage == 1) + block.depth / 100 for block in blocks}\n"
    )
    found = compare_tickets(table, criteria=[f"{file}:Second"])
    assert [each.candidate.partition(", ")[2] for each in found] == ["1 block", "2 blocks", "3 blocks"]
    assert all(each.difference == pytest.approx(-3) for each in found)
    with pytest.raises(TableError, match="can be compared with dense and random, not with macs"):
        compare_tickets(table, criteria=["snip"], against="macs")


def test_what_is_not_there_is_named(table: TicketTable) -> None:
    with pytest.raises(TableError, match="fewer than 3 seeds with both tickets and macs"):
        compare_tickets(table, against="macs")
    with pytest.raises(TableError, match="Did you mean 'accuracy'"):
        compare_tickets(table, ["acuracy"])


def test_figures_say_what_they_show(table: TicketTable, tmp_path: Path) -> None:
    drawings = [
        draw_differences(table.name, compare_tickets(table, ["accuracy", "nll"])),
        draw_profiles(table.name, best_tickets(table, ["accuracy", "nll"]), ["accuracy", "nll"]),
        draw_criteria(table.name, rank_criterion(table, "snip", ["accuracy", "nll"])),
    ]
    files = save_figures(drawings, tmp_path)
    assert len(files) == 9
    assert "3-2-3, accuracy: -3.00 (worse)" in drawings[0].alt
    # Removing the second stage's blocks is cheaper but no better in either metric.
    assert "layer 2-3-2" in drawings[1].alt
    assert drawings[2].data is not None
    assert [row[:2] for row in drawings[2].data.rows] == [["accuracy", "snip"], ["nll", "snip"]]
