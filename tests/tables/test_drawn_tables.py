"""Tables with one ticket of each depth profile and seed, whose blocks are drawn: what they tell, and what not."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from known_tables import make_table
from support import Run, check_failure

from robustprune.errors import TableError
from robustprune.pruning import kept_profile, removable_subsets, subsets_by_profile, write_profile
from robustprune.tables.criterion_rank import judge_scores
from robustprune.tables.predictability import variance_shares
from robustprune.tables.table_building import retrain
from robustprune.tables.table_file import write_table_file
from robustprune.tables.ticket_comparison import compare_tickets
from robustprune.tables.ticket_table import TicketTable, blocks_of, load_table


def worth(_seed: int, removed: tuple[str, ...]) -> dict[str, float]:
    """It is better to take blocks of several stages than of one."""
    return {"accuracy": 0.5 + 0.1 * len({name[:6] for name in removed}), "noise_auroc": 0.1 * len(set(removed))}


@pytest.fixture(scope="module")
def table() -> TicketTable:
    return make_table(worth, seeds=3, model="resnet32", tickets="profiles")


@pytest.fixture(scope="module")
def truths(table: TicketTable) -> dict[int, list[float]]:
    """What every set of blocks is worth, by their number, trained or not."""
    found: dict[int, list[float]] = {}
    for removed in removable_subsets(table.spec.blocks)[1:]:
        found.setdefault(len(removed), []).append(worth(0, removed)["accuracy"])
    return found


def test_sets_are_counted_whether_or_not_they_are_there(table: TicketTable) -> None:
    counted = {write_profile(kept): len(own) for kept, own in subsets_by_profile(table.spec.blocks).items()}
    assert table.sets == {kept: count for kept, count in counted.items() if kept != "5-5-5"}
    full = load_table("resnet20/digits")
    assert full.sets == Counter(row["kept"] for row in full.layer_tickets if row["seed"] == 0)
    assert (table.draws_blocks, full.draws_blocks) == (True, False)


def test_random_blocks_have_percentile_50_and_the_regret_of_chance(
    table: TicketTable, truths: dict[int, list[float]]
) -> None:
    """Every pair of blocks chosen once: 66, of which 48 are of two stages, though three of six tickets are."""
    names = sorted({name for row in table.layer_tickets for name in blocks_of(row)})
    pairs = list(combinations(names, 2))
    assert len(pairs) == len(truths[2]) == 66
    scores = [{name: float(name not in pair) for name in names} for pair in pairs]
    _, by_size = judge_scores(table, "accuracy", {0: scores})
    assert by_size[2]["percentile"].mean == pytest.approx(50)
    chance = 100 * (max(truths[2]) - np.mean(truths[2]))
    assert by_size[2]["regret"].mean == pytest.approx(chance)
    assert by_size[2]["regret_of_chance"].mean == pytest.approx(chance)


def test_what_it_cannot_tell_is_not_there(table: TicketTable) -> None:
    names = {name for row in table.layer_tickets for name in blocks_of(row)}
    figures, by_size = judge_scores(table, "accuracy", {0: [dict.fromkeys(names, 1.0)]})
    assert "tau_profiles" not in figures
    assert "percentile_within" not in figures
    assert by_size[9] == {}  # of one ticket nothing is chosen
    most = [row for row in table.rows if row["kept"] in ("5-5-5", "2-2-2")]
    with pytest.raises(TableError, match="there is nothing to choose"):
        judge_scores(TicketTable(most, table.facts), "accuracy", {0: [dict.fromkeys(names, 1.0)]})


def test_a_random_choice_is_the_mean_of_all_sets(table: TicketTable, truths: dict[int, list[float]]) -> None:
    for by in ("size", "profile"):
        found = compare_tickets(table, ["accuracy"], against="random", by=by)  # type: ignore[arg-type]
        for each in found:
            size = int(each.candidate[0]) if by == "size" else 15 - sum(map(int, each.candidate.split("-")))
            assert each.reference == pytest.approx(100 * np.mean(truths[size])), each.candidate
    sizes = compare_tickets(table, ["accuracy"], against="random", by="size")
    assert all(each.difference == pytest.approx(0, abs=1e-9) for each in sizes)


def test_picks_are_compared_with_chance_where_there_is_a_choice(table: TicketTable) -> None:
    sizes = {
        against: [each.candidate for each in compare_tickets(table, criteria=["random"], against=against)]  # type: ignore[arg-type]
        for against in ("dense", "random")
    }
    assert sizes["dense"] == [f"random, {size} block{'s' * (size > 1)}" for size in range(1, 10)]
    assert sizes["random"] == sizes["dense"][:-1]


def test_sets_of_blocks_are_not_compared_over_seeds(table: TicketTable, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="compare by profile or by size"):
        compare_tickets(table, by="ticket")
    (own,) = (row["removed"] for row in table.layer_tickets if (row["seed"], row["kept"]) == (0, "4-5-5"))
    (other, *_) = {"layer1.1", "layer1.2"} - {own}
    with pytest.raises(TableError, match=f"without {other}; of 4-5-5, it has the one without {own}"):
        retrain(table, [other], 0, tmp_path)
    with pytest.raises(TableError, match="no seed 3; its seeds are 0 to 2"):
        retrain(table, [], 3, tmp_path)


def test_blocks_are_part_of_the_rest() -> None:
    rng = np.random.default_rng(0)
    costs: dict[tuple[str, ...], float] = {}
    drawn = make_table(
        lambda seed, removed: {"accuracy": costs.setdefault(removed, float(rng.normal()))},
        seeds=20, model="resnet32", tickets="profiles",
    )  # fmt: skip
    shares = variance_shares(drawn, "accuracy")
    assert shares.blocks is None
    assert shares.rest > 0.8


def test_filter_tickets_are_compared_with_those_that_they_match() -> None:
    for changes in ({}, {"tickets": "profiles"}):
        made = make_table(lambda seed, removed: {"accuracy": 0.9 - 0.1 * ("layer1" in str(removed))}, **changes)
        beside = [row for row in made.layer_tickets if row["kept"] == "3-2-2"]
        filters = [{**row, "method": "filter", "match_by": "macs", "accuracy": 0.9} for row in beside]
        own = TicketTable([*made.rows, *{row["seed"]: row for row in filters}.values()], made.facts)
        (found,) = compare_tickets(own, against="macs", by="size")
        # Of two blocks, those of 2-2-3 and 2-3-2 are worse; no filter ticket is beside them.
        assert (found.candidate, found.difference) == ("2 blocks", pytest.approx(0))
        assert kept_profile(own.spec.blocks, blocks_of(beside[0])) == (3, 2, 2)


def test_the_command_line_says_what_is_judged(tmp_path: Path, run: Run) -> None:
    drawn, file = make_table(worth, tickets="profiles"), str(tmp_path / "drawn.parquet")
    write_table_file(Path(file), drawn.rows, drawn.facts)
    out = " ".join(run("table", "rank", file, "--criterion", "random").out.split())
    assert "the ticket of the depth profile that a criterion chooses" in out
    assert "It stands for all sets of blocks of its profile" in out
    assert "drawn blocks are part of the rest" in " ".join(run("table", "predict", file).out.split())
    check_failure(run("table", "rank", file, "--criterion", "random", "--budget", "macs<=80%"), 1, "has a part")
    check_failure(run("table", "compare", file, "--criterion", "random", "--by", "size"), 2, "give one of the two")
