"""Searches under a budget against tables: the shipped one, and one whose truth is laid down."""

from __future__ import annotations

import numpy as np
import pytest
from known_tables import make_table
from support import Run, check_failure

from robustprune.errors import TableError
from robustprune.tables.search_rank import TRUTH, rank_searches
from robustprune.tables.ticket_table import TicketTable, blocks_of, load_table

BUDGETS = ["macs<=90%", "macs<=80%", "macs<=70%", "params<=80%", "params<=65%"]


@pytest.mark.parametrize("metric", ["accuracy", "pgd_linf_16_255", "nll"])
def test_a_beam_comes_within_a_third_of_a_point_of_the_best_ticket_of_its_budget(metric: str) -> None:
    found = rank_searches(load_table("resnet20/digits"), [], BUDGETS, ["beam", "exhaustive"], [metric])
    assert {each.criterion for each in found} == {TRUTH}
    for each in found:
        assert 0 <= each.figures["regret"].mean <= (0 if each.search == "exhaustive" else 0.3), each


def test_what_ranks_tell_is_what_the_rows_say() -> None:
    table = load_table("resnet20/digits")
    (own,) = [each for each in rank_searches(table, ["random"], ["macs<=70%"]) if each.criterion == "random"]
    dense = next(row for row in table.rows if row["method"] == "dense")["macs"]
    within = [row for row in table.layer_tickets if row["macs"] <= 0.7 * dense]
    assert own.tickets == len({blocks_of(row) for row in within})
    chance = []
    for seed in table.seeds:
        values = [100 * row["accuracy"] for row in within if row["seed"] == seed]
        chance.append(max(values) - np.mean(values))
    assert own.figures["regret_of_chance"].mean == pytest.approx(np.mean(chance))
    assert own.to_dict()["regret"].keys() == {"mean", "low", "high"}


@pytest.fixture(scope="module")
def table() -> TicketTable:
    # Alone, layer1.1 and layer2.1 cost least; but without the two of the last stage nothing is lost.
    worth = {"layer1.1": 0.01, "layer1.2": 0.2, "layer2.1": 0.02, "layer2.2": 0.2, "layer3.1": 0.03, "layer3.2": 0.2}
    return make_table(
        lambda seed, removed: {"accuracy": 0.9 - sum(worth[name] for name in removed if "layer1.0" not in removed)
                               if len(removed) < 3 else (0.8 if removed[0] == "layer1.2" else 0.3)}
    )  # fmt: skip


def test_greedy_loses_what_a_beam_finds(table: TicketTable) -> None:
    found = {each.search: each for each in rank_searches(table, [], ["macs<=70"], ["greedy", "beam", "exhaustive"])}
    assert found["greedy"].figures["regret"].mean == pytest.approx(50)
    assert found["beam"].figures["regret"].mean == 0
    assert found["exhaustive"].figures["percentile"].mean > 75
    assert found["beam"].figures["cost"].mean == pytest.approx(70)


@pytest.mark.parametrize(
    ("budget", "said"),
    [("macs<=100%", "the dense network keeps"), ("macs<=10%", "no ticket keeps"), ("mac<=60%", "Did you mean 'macs'")],
)
def test_budgets_that_ask_nothing_are_refused(table: TicketTable, budget: str, said: str) -> None:
    with pytest.raises(TableError, match=said):
        rank_searches(table, [], [budget])


def test_a_table_with_part_of_the_tickets_is_refused(table: TicketTable) -> None:
    part = TicketTable([row for row in table.rows if row["removed"] != "layer1.1"], table.facts)
    with pytest.raises(TableError, match="has a part"):
        rank_searches(part, [], ["macs<=80%"])


def test_the_command_prints_what_one_shot_ranking_loses(run: Run) -> None:
    how = ["table", "rank", "resnet20/digits", "--criterion", "random", "--budget", "macs<=80%,params<=70%"]
    found = run(*how, "--search", "greedy,beam:width=4", "--json").json
    assert {(row["criterion"], row["search"], row["budget"]) for row in found} == {
        (by, search, budget)
        for by in ("random", TRUTH)
        for search in ("greedy", "beam:width=4")
        for budget in ("macs<=80%", "params<=70%")
    }
    assert "regret of chance" in run(*how).out
    for given, words in ((["--figures", "f"], "give one of the two"), (["--search", "bem"], "no search 'bem'")):
        check_failure(run(*how, *given), 2 if "--figures" in given else 1, words)
    check_failure(run(*how[:5], "--search", "beam"), 2, "add --budget")
