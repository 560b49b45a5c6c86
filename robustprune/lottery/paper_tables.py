"""The tables of the paper (Jordao et al. 2023, arXiv:2301.10835, Tables 1 to 5), from records alone.

Every cell is a mean over seeds of a ticket against the dense network of the same seed, with half the width of its 95 %
interval. What records do not tell stays empty; a table with nothing in it is left out, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from robustprune.comparison.from_record import measured_alike
from robustprune.cost import saved_in_training
from robustprune.lottery.found_tickets import Context, PaperTicket, gather
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
    for context in gather(records):
        for number, make in _TABLES.items():
            name = f"Table {number}, {context.title}"
            try:
                tables.append(make(name, context))
            except _LeftOut as reason:
                left_out[name] = str(reason)
    return TableSet(tuple(tables), left_out)


class _LeftOut(Exception):
    """A table cannot be made; the message says what would have to be, or what is in the way."""


def _rewound(name: str, context: Context) -> Table:
    """Table 1: tickets found in the trained network, by the epoch that they were rewound to."""
    tickets = context.of("layer", lambda ticket: ticket.found_after_training and ticket.rewound_to is not None)
    if not tickets:
        raise _LeftOut("no layer was removed from a trained network and the rest rewound (`robustprune lottery`)")
    points = sorted({ticket.rewound_to for ticket in tickets}, key=lambda point: (isinstance(point, str), point))
    columns = [f"epoch {point}" if isinstance(point, int) else "random weights" for point in points]
    lines = _lines(
        tickets, lambda ticket: (ticket.criterion, ticket.blocks), lambda ticket: points.index(ticket.rewound_to)
    )
    rows = [[*key, *(_cell(cells.get(place)) for place in range(len(points)))] for key, cells in lines.items()]
    title = f"{name}: accuracy of tickets rewound to an epoch (pp)"
    return Table(title, ["criterion", "blocks", *columns], rows, _note(tickets))


def _at_initialization(name: str, context: Context) -> Table:
    """Table 2: tickets found at initialization, by how many blocks went."""
    tickets = context.of("layer", lambda ticket: not ticket.found_after_training and _keeps_weights(ticket))
    if not tickets:
        raise _LeftOut("no layer was removed from a network at initialization (`robustprune prune`)")
    counts = sorted({ticket.blocks for ticket in tickets})
    lines = _lines(tickets, lambda ticket: (ticket.criterion,), lambda ticket: ticket.blocks)
    rows = [[*key, *(_cell(cells.get(count)) for count in counts)] for key, cells in lines.items()]
    columns = ["criterion", *(f"{count} block{'s' * (count > 1)}" for count in counts)]
    return Table(f"{name}: accuracy of tickets found at initialization (pp)", columns, rows, _note(tickets))


def _layers_or_filters(name: str, context: Context) -> Table:
    """Table 3: layers against filters, where a filter-pruned network was matched to a ticket without layers."""
    filters = context.of("filter", lambda ticket: ticket.blocks > 0 and _keeps_weights(ticket))
    matched = {_way(ticket) for ticket in filters}
    layers = context.of("layer", lambda ticket: _way(ticket) in matched and _keeps_weights(ticket))
    if not layers:
        raise _LeftOut("no network lost filters to match one that lost layers (`robustprune prune --match`)")
    ways = {_way(ticket) for ticket in layers}
    tickets = [*(ticket for ticket in filters if _way(ticket) in ways), *layers]
    cuts = sorted({ticket.cut for ticket in tickets})
    lines = _lines(tickets, _way, lambda ticket: ticket.cut)
    rows = [[*key, *(_cell(cells.get(cut)) for cut in cuts)] for key, cells in lines.items()]
    title = f"{name}: accuracy without filters or without layers, matched in cost (pp)"
    return Table(title, ["criterion", "blocks", "found", *cuts], rows, _note(tickets))


def _keeps_weights(ticket: PaperTicket) -> bool:
    """Whether it is a ticket of Tables 2 to 5: one with new random weights is a control, which Table 1 has."""
    return ticket.rewound_to != "random"


def _way(ticket: PaperTicket) -> tuple[str, int, str]:
    after = "at initialization" if not ticket.found_after_training else "in the trained network"
    rewound = (
        "" if not ticket.found_after_training or ticket.rewound_to is None else f", rewound to {ticket.rewound_to}"
    )
    return ticket.criterion, ticket.blocks, after + rewound


def _costs(name: str, context: Context) -> Table:
    """Table 4: what is saved."""
    tickets = context.of(
        "layer",
        lambda ticket: _keeps_weights(ticket) and (not ticket.found_after_training or ticket.rewound_to in (0, None)),
    )
    figures = {
        "FLOPs (%)": _saved(lambda record: record.model.macs),
        "memory (%)": _saved(lambda record: record.model.training_memory),
        "CO₂ (%)": _emissions,
        "training speed-up (×)": _speedup,
    }
    return _by_blocks(f"{name}: saved against the dense network", tickets, figures, "{:.2f}")


def _robustness(name: str, context: Context) -> Table:
    """Table 5: accuracy under corruptions and on shifted sets."""
    tickets = context.of("layer", _keeps_weights)
    shifts = dict.fromkeys(each.name for ticket in tickets for own, _ in ticket.pairs.values() for each in own.shift)
    figures: dict[str, _Figure] = {"corruptions (pp)": _corrupted}
    figures |= {f"{shift} (pp)": _shifted(shift) for shift in shifts}
    return _by_blocks(f"{name}: robustness against the dense network", tickets, figures, "{:+.2f}")


_TABLES: dict[int, Callable[[str, Context], Table]] = {
    1: _rewound,
    2: _at_initialization,
    3: _layers_or_filters,
    4: _costs,
    5: _robustness,
}

_Figure = Callable[[Record, Record], float | None]


def _by_blocks(title: str, tickets: Sequence[PaperTicket], figures: Mapping[str, _Figure], form: str) -> Table:
    """Return a table with a row for each criterion and number of blocks, and a column for each figure that is known."""
    rows = []
    for ticket in sorted(tickets, key=lambda ticket: (ticket.blocks, *_way(ticket))):
        values = [[figure(own, dense) for own, dense in ticket.pairs.values()] for figure in figures.values()]
        cells = [
            None if None in each else mean_and_half_width([v for v in each if v is not None], form) for each in values
        ]
        rows.append([ticket.blocks, ticket.criterion, _way(ticket)[2], *cells])
    known = [place for place in range(len(figures)) if any(row[3 + place] is not None for row in rows)]
    if not known:
        raise _LeftOut(f"no ticket without layers and its dense network have {' or '.join(figures)} in their records")
    columns = ["blocks", "criterion", "found", *(list(figures)[place] for place in known)]
    kept = [[*row[:3], *(row[3 + place] for place in known)] for row in rows]
    return Table(title, columns, kept, _note(tickets))


def _saved(read: Callable[[Record], float | None]) -> _Figure:
    def percent(own: Record, dense: Record) -> float | None:
        part, whole = read(own), read(dense)
        return None if part is None or not whole else 100 * (1 - part / whole)

    return percent


def _emissions(own: Record, dense: Record) -> float | None:
    return saved_in_training(own.model.training, dense.model.training).get("co2")


def _speedup(own: Record, dense: Record) -> float | None:
    spent, whole = own.model.training, dense.model.training
    if not measured_alike("training_seconds", own, dense):
        return None
    if not spent.get("seconds") or not whole.get("seconds"):
        return None
    return float(whole["seconds"] / spent["seconds"])


def _corrupted(own: Record, dense: Record) -> float | None:
    if own.corruptions is None or dense.corruptions is None:
        return None
    # As `compare` does: its folder may be another on another machine.
    if Path(own.corruptions.source).name != Path(dense.corruptions.source).name:
        return None
    if own.corruptions.mean_accuracy is None or dense.corruptions.mean_accuracy is None:
        return None
    return 100 * (own.corruptions.mean_accuracy - dense.corruptions.mean_accuracy)


def _shifted(name: str) -> _Figure:
    def difference(own: Record, dense: Record) -> float | None:
        found = [{each.name: each.accuracy for each in record.shift}.get(name) for record in (own, dense)]
        return None if found[0] is None or found[1] is None else 100 * (found[0] - found[1])

    return difference


def _lines(
    tickets: Sequence[PaperTicket],
    key: Callable[[PaperTicket], tuple[str | int, ...]],
    place: Callable[[PaperTicket], str | int],
) -> dict[tuple[str | int, ...], dict[str | int, PaperTicket]]:
    lines: dict[tuple[str | int, ...], dict[str | int, PaperTicket]] = {}
    for ticket in tickets:
        cells = lines.setdefault(key(ticket), {})
        if place(ticket) in cells:
            raise _LeftOut(
                f"two kinds of tickets belong in one cell ({', '.join(map(str, key(ticket)))}, {place(ticket)}); "
                "report them in two calls"
            )
        cells[place(ticket)] = ticket
    return lines


def _cell(ticket: PaperTicket | None) -> str | None:
    if ticket is None:
        return None
    return mean_and_half_width(
        [100 * (own.clean.accuracy - dense.clean.accuracy) for own, dense in ticket.pairs.values()], "{:+.2f}"
    )


def _note(tickets: Sequence[PaperTicket]) -> str:
    seeds = sorted({len(ticket.pairs) for ticket in tickets})
    if seeds == [1]:
        return f"{_POINTS} where nothing else is said; one seed, so that nothing is known of the spread over seeds."
    many = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return f"{_POINTS} where nothing else is said; mean over {many} seeds ± half its 95 % interval (Student's t)."
