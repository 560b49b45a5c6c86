"""The tables of the paper (Jordao et al. 2023, arXiv:2301.10835, Tables 1 to 5), from records alone.

Every cell is a mean over seeds of a ticket against the dense network of the same seed, with half the width of its 95 %
interval. What records do not tell stays empty; a table with nothing in it is left out, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from robustprune.comparison.from_record import measured_alike
from robustprune.cost import saved_in_training
from robustprune.lottery.found_tickets import PaperTicket, gather
from robustprune.metrics import mean_and_half_width
from robustprune.records import Record
from robustprune.report.table import Table, TableSet

_POINTS = "Percentage points against the dense network of the same seed"


def paper_tables(records: Iterable[Record]) -> TableSet:
    """Return the paper's tables, for each network and image set anew.

    Args:
        records: Of dense networks and of tickets, of any number of seeds.
    """
    tables: list[Table] = []
    left_out: dict[str, str] = {}
    for title, tickets in gather(records).items():
        for number, make in _TABLES.items():
            name = f"Table {number}, {title}"
            try:
                tables.append(make(name, tickets))
            except _LeftOut as reason:
                left_out[name] = str(reason)
    return TableSet(tuple(tables), left_out)


class _LeftOut(Exception):
    """A table cannot be made; the message says what would have to be, or what is in the way."""


def _rewound(name: str, tickets: Sequence[PaperTicket]) -> Table:
    """Table 1: tickets found in the trained network, by the epoch that they were rewound to."""
    return _by_column(
        f"{name}: accuracy of tickets rewound to an epoch (pp)",
        [
            ticket
            for ticket in tickets
            if ticket.method == "layer" and ticket.found_after_training and ticket.rewound_to is not None
        ],
        {"criterion": lambda ticket: ticket.criterion, "blocks": lambda ticket: ticket.blocks},
        lambda ticket: ticket.rewound_to,
        lambda point: "random weights" if point == "random" else f"epoch {point}",
        "no layer was removed from a trained network and the rest rewound (`robustprune lottery`)",
    )


def _at_initialization(name: str, tickets: Sequence[PaperTicket]) -> Table:
    """Table 2: tickets found at initialization, by how many blocks went."""
    return _by_column(
        f"{name}: accuracy of tickets found at initialization (pp)",
        [ticket for ticket in _without_layers(tickets) if not ticket.found_after_training],
        {"criterion": lambda ticket: ticket.criterion},
        lambda ticket: ticket.blocks,
        lambda count: f"{count} block{'s' * (count > 1)}",
        "no layer was removed from a network at initialization (`robustprune prune`)",
    )


def _layers_or_filters(name: str, tickets: Sequence[PaperTicket]) -> Table:
    """Table 3: layers against filters, where a filter-pruned network was matched to a ticket without layers."""
    ways = {"layer": set[object](), "filter": set[object]()}
    matched = [*_without_layers(tickets), *_without_layers(tickets, "filter")]
    for ticket in matched:
        if ticket.blocks > 0:
            ways[ticket.method].add((ticket.criterion, ticket.blocks, ticket.found))
    both = ways["layer"] & ways["filter"]
    return _by_column(
        f"{name}: accuracy without filters or without layers, matched in cost (pp)",
        [ticket for ticket in matched if (ticket.criterion, ticket.blocks, ticket.found) in both],
        {
            "criterion": lambda ticket: ticket.criterion,
            "blocks": lambda ticket: ticket.blocks,
            "found": lambda ticket: ticket.found,
        },
        lambda ticket: ticket.cut,
        str,
        "no network lost filters to match one that lost layers (`robustprune prune --match`)",
    )


def _costs(name: str, tickets: Sequence[PaperTicket]) -> Table:
    """Table 4: what is saved."""
    figures = {
        "FLOPs (%)": _saved(lambda record: record.model.macs),
        "memory (%)": _saved(lambda record: record.model.training_memory),
        "CO₂ (%)": lambda own, dense: saved_in_training(own.model.training, dense.model.training).get("co2"),
        "training speed-up (×)": _speedup,
    }
    own = [ticket for ticket in _without_layers(tickets) if ticket.rewound_to in (0, None)]
    return _by_blocks(f"{name}: saved against the dense network", own, figures, "{:.2f}")


def _robustness(name: str, tickets: Sequence[PaperTicket]) -> Table:
    """Table 5: accuracy under corruptions and on shifted sets."""
    found = _without_layers(tickets)
    shifts = dict.fromkeys(each.name for ticket in found for own, _ in ticket.pairs.values() for each in own.shift)
    figures = {"corruptions (pp)": _corrupted, **{f"{shift} (pp)": _shifted(shift) for shift in shifts}}
    return _by_blocks(f"{name}: robustness against the dense network", found, figures, "{:+.2f}")


_TABLES: dict[int, Callable[[str, Sequence[PaperTicket]], Table]] = {
    1: _rewound,
    2: _at_initialization,
    3: _layers_or_filters,
    4: _costs,
    5: _robustness,
}

_Figure = Callable[[Record, Record], float | None]


def _without_layers(tickets: Sequence[PaperTicket], method: str = "layer") -> list[PaperTicket]:
    """Return the tickets of Tables 2 to 5: those with new random weights are a control, which Table 1 has."""
    return [ticket for ticket in tickets if ticket.method == method and ticket.rewound_to != "random"]


def _by_column(
    title: str,
    tickets: Sequence[PaperTicket],
    leading: Mapping[str, Callable[[PaperTicket], str | int]],
    place: Callable[[PaperTicket], Any],
    heading: Callable[[Any], str],
    missing: str,
) -> Table:
    """Return a table of accuracies with a row for each of the leading columns' values, a column for each place."""
    if not tickets:
        raise _LeftOut(missing)
    lines: dict[tuple[str | int, ...], dict[Any, PaperTicket]] = {}
    for ticket in tickets:
        key = tuple(read(ticket) for read in leading.values())
        if lines.setdefault(key, {}).setdefault(place(ticket), ticket) is not ticket:
            raise _LeftOut(
                f"two kinds of tickets belong in one cell ({', '.join(map(str, key))}, {place(ticket)}); report them "
                "in two calls"
            )
    places = sorted({place(ticket) for ticket in tickets}, key=lambda each: (isinstance(each, str), each))
    rows = [[*key, *(_accuracy(cells.get(each)) for each in places)] for key, cells in lines.items()]
    return Table(title, [*leading, *map(heading, places)], rows, _note(tickets))


def _accuracy(ticket: PaperTicket | None) -> str | None:
    if ticket is None:
        return None
    differences = [100 * (own.clean.accuracy - dense.clean.accuracy) for own, dense in ticket.pairs.values()]
    return mean_and_half_width(differences, "{:+.2f}")


def _by_blocks(title: str, tickets: Sequence[PaperTicket], figures: Mapping[str, _Figure], form: str) -> Table:
    """Return a table with a row for each criterion and number of blocks, and a column for each figure that is known."""
    tickets = sorted(tickets, key=lambda ticket: (ticket.blocks, ticket.criterion, ticket.found))
    columns: dict[str, list[str | None]] = {}
    for name, figure in figures.items():
        values = [[figure(own, dense) for own, dense in ticket.pairs.values()] for ticket in tickets]
        known = [[value for value in each if value is not None] for each in values]
        cells = [
            mean_and_half_width(some, form) if len(some) == len(each) else None
            for some, each in zip(known, values, strict=True)
        ]
        if any(cells):
            columns[name] = cells
    if not columns:
        raise _LeftOut(f"no ticket without layers and its dense network have {' or '.join(figures)} in their records")
    rows = [
        [ticket.blocks, ticket.criterion, ticket.found, *cells]
        for ticket, cells in zip(tickets, zip(*columns.values(), strict=True), strict=True)
    ]
    return Table(title, ["blocks", "criterion", "found", *columns], rows, _note(tickets))


def _saved(read: Callable[[Record], float | None]) -> _Figure:
    def percent(own: Record, dense: Record) -> float | None:
        part, whole = read(own), read(dense)
        return None if part is None or not whole else 100 * (1 - part / whole)

    return percent


def _speedup(own: Record, dense: Record) -> float | None:
    spent, whole = (record.model.training.get("seconds") for record in (own, dense))
    return float(whole / spent) if spent and whole and measured_alike("training_seconds", own, dense) else None


def _corrupted(own: Record, dense: Record) -> float | None:
    found = [record.corruptions for record in (own, dense)]
    # As `compare` does: its folder may be another on another machine.
    sources = {None if each is None else Path(each.source).name for each in found}
    accuracies = [None if each is None else each.mean_accuracy for each in found]
    return _points(*accuracies) if len(sources) == 1 else None


def _shifted(name: str) -> _Figure:
    def difference(own: Record, dense: Record) -> float | None:
        return _points(*({each.name: each.accuracy for each in record.shift}.get(name) for record in (own, dense)))

    return difference


def _points(own: float | None, dense: float | None) -> float | None:
    return None if own is None or dense is None else 100 * (own - dense)


def _note(tickets: Sequence[PaperTicket]) -> str:
    seeds = sorted({len(ticket.pairs) for ticket in tickets})
    if seeds == [1]:
        return f"{_POINTS} where nothing else is said; one seed, so that nothing is known of the spread over seeds."
    many = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return f"{_POINTS} where nothing else is said; mean over {many} seeds ± half its 95 % interval (Student's t)."
