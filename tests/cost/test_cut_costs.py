"""What networks cost without blocks, against the networks that are left; and what budgets say."""

from __future__ import annotations

import pytest
from support import Shape

from robustprune.cost import CUT_COSTS, CutCosts, measure_cost, measure_memory, read_budget
from robustprune.errors import PruningError, TableError
from robustprune.models import build_model
from robustprune.pruning import find_blocks, removable_subsets, remove_blocks

NETWORK = build_model("resnet20", Shape(channels=1, image_size=(8, 8)), width=2)
BLOCKS = find_blocks(NETWORK)
SETS = [*removable_subsets(BLOCKS)[1::6], removable_subsets(BLOCKS)[-1]]
LEFT = {
    each: remove_blocks(NETWORK, {block.name: str(block.residue) for block in BLOCKS if block.name in each})
    for each in SETS
}


@pytest.mark.parametrize("cost", ["macs", "parameters", "filters"])
def test_what_is_counted_adds_up(cost: str) -> None:
    costs = CutCosts(NETWORK, BLOCKS, cost)
    assert costs(()) == costs.whole == getattr(measure_cost(NETWORK), cost)
    for removed, left in LEFT.items():
        assert costs(removed) == getattr(measure_cost(left), cost)


def test_memory_is_that_of_the_network_that_is_left() -> None:
    costs = CutCosts(NETWORK, BLOCKS[1:3], "training_memory")
    removed = tuple(block.name for block in BLOCKS[1:3])
    left = remove_blocks(NETWORK, {block.name: str(block.residue) for block in BLOCKS[1:3]})
    assert costs(removed) == measure_memory(left).training
    assert costs.whole == measure_memory(NETWORK).training


def test_latency_is_measured_beside_the_whole_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustprune.cost.cut_costs._SECONDS", 0.0)
    costs = CutCosts(NETWORK, BLOCKS[1:2], "latency")
    assert 0 < costs((BLOCKS[1].name,)) < 10 * costs.whole
    assert costs((BLOCKS[1].name,)) == costs.whole - costs.prices[BLOCKS[1].name]  # measured once


def test_a_budget_is_a_number_or_a_share() -> None:
    for text in ("macs<=60%", " macs <= 60 %", "macs<=60.0%"):
        budget = read_budget(text, CUT_COSTS, PruningError)
        assert str(budget) == "macs<=60%"
        assert budget.most(200) == 120
    for text in ("params<=200,000", "parameters<=200_000", "parameters<=2e5"):
        assert str(read_budget(text, CUT_COSTS, PruningError)) == "parameters<=200000"
    assert read_budget("memory<=2e6", CUT_COSTS, PruningError).most(7.0) == 2_000_000
    assert read_budget("memory<=2e6", CUT_COSTS, PruningError).cost == "training_memory"
    for text in ("latency<=1e-05", "memory<=2e+15"):  # as they are written down
        budget = read_budget(text, CUT_COSTS, PruningError)
        assert read_budget(str(budget), CUT_COSTS, PruningError) == budget


@pytest.mark.parametrize(
    "text", ["", "macs", "macs<60%", "macs<=sixty", "macs<=1.2.3", "60%", "macs<=60%%", "macs<=1e999"]
)
def test_budgets_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(TableError, match="COST<=NUMBER"):
        read_budget(text, CUT_COSTS, TableError)
    with pytest.raises(PruningError, match="Did you mean 'macs'"):
        read_budget("mac<=60%", CUT_COSTS, PruningError)
