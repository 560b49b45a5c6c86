"""Criteria against truths that are laid down: one that knows them, one that has them upside down, chance."""

from __future__ import annotations

import zlib
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from known_tables import make_table

from robustprune.cli.table_judging import _plus_minus
from robustprune.errors import TableError
from robustprune.metrics.seeds import mean_over_seeds
from robustprune.tables.criterion_rank import judge_scores, rank_criterion
from robustprune.tables.ticket_table import TicketTable

BLOCKS = [f"layer{stage}.{place}" for stage, place in product((1, 2, 3), (0, 1, 2))]


def block_worth(seed: int, name: str) -> float:
    """What losing a block costs, other for each seed, in shares."""
    return (zlib.crc32(f"{seed} {name}".encode()) % 1_000_003) / 10_000_000


@pytest.fixture(scope="module")
def table() -> TicketTable:
    return make_table(lambda seed, removed: {"accuracy": 0.9 - sum(block_worth(seed, name) for name in removed),
                                             "nll": 1 + sum(block_worth(seed, name) for name in removed)})  # fmt: skip


@pytest.mark.parametrize("metric", ["accuracy", "nll"])
def test_a_criterion_that_knows_what_blocks_are_worth_picks_the_best(table: TicketTable, metric: str) -> None:
    scores = {seed: [{name: block_worth(seed, name) for name in BLOCKS}] for seed in table.seeds}
    figures, by_size = judge_scores(table, metric, scores)
    for own in (figures, *by_size.values()):
        assert own["regret"].mean == pytest.approx(0, abs=1e-9)
        assert own["percentile"].mean == pytest.approx(100)
        assert own["tau_subsets"].mean == pytest.approx(1)
        assert own["regret_of_chance"].mean > 0
    assert figures["tau_profiles"].mean == pytest.approx(1)
    assert set(by_size) == {1, 2, 3}


def test_one_that_has_it_upside_down_picks_the_worst(table: TicketTable) -> None:
    scores = {seed: [{name: -block_worth(seed, name) for name in BLOCKS}] for seed in table.seeds}
    figures, by_size = judge_scores(table, "accuracy", scores)
    assert figures["tau_subsets"].mean == pytest.approx(-1)
    assert figures["percentile"].mean == pytest.approx(0)
    for size, own in by_size.items():
        regrets = []
        for seed in table.seeds:
            values = [100 * value for key, value in table.goodness("accuracy", seed).items() if len(key) == size]
            regrets.append(max(values) - min(values))
        assert own["regret"].mean == pytest.approx(np.mean(regrets))


def test_scores_that_know_profiles_alone_are_no_better_than_chance_within_them() -> None:
    # What the first stage loses is cheap; which of its blocks, is not known.
    stage_cost = {"1": 0.01, "2": 0.03, "3": 0.05}
    table = make_table(
        lambda seed, removed: {
            "accuracy": 0.9 - sum(stage_cost[name[5]] + block_worth(seed, name) / 100 for name in removed)
        },
        seeds=40,
    )
    scores = {
        seed: [{name: stage_cost[name[5]] + zlib.crc32(f"{seed}{name}".encode()) / 1e12 for name in BLOCKS}]
        for seed in table.seeds
    }
    figures, _ = judge_scores(table, "accuracy", scores)
    assert figures["tau_profiles"].mean == pytest.approx(1)
    assert figures["percentile"].mean > 60
    within = figures["percentile_within"]
    assert within.ends[0] < 50 < within.ends[1]


@pytest.mark.slow
def test_random_is_chance() -> None:
    table = make_table(lambda seed, removed: {"accuracy": zlib.crc32(f"{seed}{removed}".encode()) / 2**32}, seeds=8)
    (rank,) = rank_criterion(table, "random", draws=40)
    assert rank.figures["percentile"].mean == pytest.approx(50, abs=3)
    tau = rank.figures["tau_subsets"]
    assert tau.ends[0] <= 0 <= tau.ends[1]
    chance = rank.figures["regret_of_chance"].mean
    assert rank.figures["regret"].mean == pytest.approx(chance, rel=0.05)


def test_a_criterion_in_a_users_file_is_ranked(table: TicketTable, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from robustprune.pruning import Criterion\n\n\n"
        "class Shallow(Criterion):\n"
        "    def score(self, model, blocks, data, seed):\n"
        "        return {block.name: float(block.depth) for block in blocks}\n"
    )
    (rank,) = rank_criterion(table, f"{file}:Shallow")
    assert rank.to_dict()["criterion"].endswith("Shallow")
    assert set(rank.by_size) == {1, 2, 3}


def test_half_an_interval_is_that_of_one_that_no_bound_cuts_off() -> None:
    values = [0.0, 0.1, 0.9]
    (low, high), cut = mean_over_seeds(values).ends, mean_over_seeds(values, bounds=(0, np.inf))
    assert cut.low == 0 > low
    assert _plus_minus(cut, "regret") == f"0.33 ± {(high - low) / 2:.2f}"


def test_an_unknown_measure_is_named(table: TicketTable) -> None:
    with pytest.raises(TableError, match=r"no metric 'acuracy'. Did you mean 'accuracy'"):
        rank_criterion(table, "random", ["acuracy"])
