"""The best tickets under a budget, of a table whose truth is laid down."""

from __future__ import annotations

import pytest
from known_tables import make_table

from robustprune.errors import TableError
from robustprune.tables.budget import best_tickets
from robustprune.tables.ticket_table import TicketTable


@pytest.fixture(scope="module")
def table() -> TicketTable:
    # Blocks of the first stage cost accuracy, those of the last robustness; the second one's are free.
    return make_table(
        lambda seed, removed: {
            "accuracy": 0.9 - 0.1 * sum(name.startswith("layer1") for name in removed) + 0.001 * seed,
            "pgd": 0.5 - 0.1 * sum(name.startswith("layer3") for name in removed),
        }
    )


def test_those_that_nothing_beats_are_marked(table: TicketTable) -> None:
    found = {each.kept: each.is_best for each in best_tickets(table, ["accuracy", "pgd"])}
    # Without the free block it is cheaper and as good; each further block costs in one metric and is cheaper.
    assert {kept for kept, is_best in found.items() if is_best} == {"3-2-3", "2-2-3", "3-2-2", "2-2-2"}


def test_a_budget_is_a_share_or_a_number(table: TicketTable) -> None:
    for budget in ("macs<=80%", " parameters <= 80 ", "macs<=80"):
        found = best_tickets(table, ["accuracy"], budget)
        assert all(each.costs["macs"] <= 0.8 for each in found)
        assert found[0].kept == "3-2-2"
        assert found[0].values["accuracy"].mean == pytest.approx(0.9015)
        assert found[0].networks == 4 * 4
    with pytest.raises(TableError, match=r"no network .* keeps within macs<=10%"):
        best_tickets(table, ["accuracy"], "macs<=10%")


@pytest.mark.parametrize(("budget", "said"), [("macs<60%", "COST<=NUMBER"), ("mac<=60%", "Did you mean 'macs'")])
def test_budgets_of_another_form_are_refused(table: TicketTable, budget: str, said: str) -> None:
    with pytest.raises(TableError, match=said):
        best_tickets(table, ["accuracy"], budget)
