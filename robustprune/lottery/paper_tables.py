"""The tables of the paper (Jordao et al. 2023, arXiv:2301.10835, Tables 1 to 5), from records alone.

Every cell is a mean over seeds of a ticket against the dense network of the same seed, with half the width of its 95 %
interval. What records do not tell stays empty; a table with nothing in it is left out, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from robustprune.comparison.record_metrics import measured_alike
from robustprune.cost import saved_in_training
from robustprune.metrics import mean_and_half_width
from robustprune.records import Record
from robustprune.report.grouping import differing, fullest, identity, recipe
from robustprune.report.table import Table, TableSet

_POINTS = "Percentage points against the dense network of the same seed"


def paper_tables(records: Iterable[Record]) -> TableSet:
    """Return the paper's tables of dense networks and tickets, for each network and image set anew."""
    tables: list[Table] = []
    left_out: dict[str, str] = {}
    for title, tickets in _gather(records).items():
        for number, make in _TABLES.items():
            name = f"Table {number}, {title}"
            try:
                tables.append(make(name, tickets))
            except _LeftOut as reason:
                left_out[name] = str(reason)
    return TableSet(tuple(tables), left_out)


@dataclass(frozen=True)
class _Ticket:
    """A way to find a ticket, and what came of it for each seed.

    Attributes:
        method: What was removed: ``layer`` or ``filter``.
        cut: The same in words: ``layers``, or ``filters`` with what sets them apart from others by that criterion.
        criterion: The ranking, with those of its options that set it apart from others in the same table.
        blocks: How many blocks went; of filters, those of the ticket that was matched.
        found_after_training: Whether the ranking was made in a trained network.
        rewound_to: Epoch, ``random``, ``shuffled``, or None.
        pairs: Seed → the ticket's record and the dense network's.
    """

    method: str
    cut: str
    criterion: str
    blocks: int
    found_after_training: bool
    rewound_to: int | Literal["random", "shuffled"] | None
    pairs: Mapping[int | None, tuple[Record, Record]]

    @property
    def found(self) -> str:
        """Where it was found, and what its weights were set back to."""
        if not self.found_after_training:
            return "at initialization"
        return "in the trained network" + ("" if self.rewound_to is None else f", rewound to {self.rewound_to}")


def _gather(records: Iterable[Record]) -> dict[str, list[_Ticket]]:
    """Return the tickets that belong in one table, of one network and image set, trained and tested alike, by title.

    Tickets without a dense network of their seed are left out.
    """
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in fullest(list(records)):
        trained = json.dumps(recipe(record), sort_keys=True)
        alike = record.model.architecture, record.dataset, trained, record.samples_sha256
        groups.setdefault(alike, []).append(record)
    firsts = [members[0] for members in groups.values()]
    titled = {_title(members[0], firsts): list(_tickets(members)) for members in groups.values()}
    return dict(sorted(titled.items(), key=lambda each: each[0]))


def _title(own: Record, others: list[Record]) -> str:
    """Return what a group is called: the network, the image set, and what sets it apart from others of both."""
    title = f"{own.model.architecture} on {own.dataset}"
    alike = [each for each in others if f"{each.model.architecture} on {each.dataset}" == title]
    mine = recipe(own)
    different = differing([recipe(each) for each in alike])
    if different:
        title += "".join(f", {name} {mine.get(name)}" for name in different) if mine else ", untrained"
    if len({each.samples_sha256 for each in alike}) > 1:
        title += f", {own.n:,} images ({own.samples_sha256[:8]})"
    return title


def _tickets(records: list[Record]) -> Iterator[_Ticket]:
    dense: dict[int | None, Record] = {}
    found: dict[str, dict[int | None, Record]] = {}
    for record in records:
        plan = record.model.plan
        if plan.get("method", "none") == "none":
            dense.setdefault(record.model.seed, record)
        # Blocks chosen against the ranking are a control, which no table of the paper has.
        elif plan["method"] in ("layer", "filter") and not (plan.get("earlier") or _is_control(plan)):
            found.setdefault(json.dumps(identity(record), sort_keys=True), {}).setdefault(record.model.seed, record)
    ways = {way: json.loads(way) for way in found}
    for way, own in ways.items():
        seeds = sorted(found[way].items(), key=str)
        pairs = {seed: (record, dense[seed]) for seed, record in seeds if seed in dense}
        if not pairs:
            continue
        alike = [each for each in ways.values() if all(each[key] == own[key] for key in ("criterion", "method"))]
        ranked = differing([{**each["options"], "eligibility": each["eligibility"]} for each in alike])
        ranking = {"eligibility": own["eligibility"], **own["options"]}
        taken = differing([{key: each[key] for key in ("variant", "match")} for each in alike])
        yield _Ticket(
            method=own["method"],
            cut=f"{own['method']}s" + _in_brackets(str(own[key]) for key in reversed(taken)),
            criterion=own["criterion"] + _in_brackets(f"{key} {ranking.get(key)}" for key in ranked),
            blocks=own["blocks"],
            found_after_training=own["after"],
            rewound_to=own["rewound"],
            pairs=pairs,
        )


def _is_control(plan: Mapping[str, Any]) -> bool:
    return plan.get("choice") not in (None, "lowest") or bool(plan.get("decided_by"))


def _in_brackets(texts: Iterable[str]) -> str:
    joined = ", ".join(texts)
    return f" ({joined})" if joined else ""


class _LeftOut(Exception):
    """A table cannot be made; the message says what would have to be, or what is in the way."""


def _rewound(name: str, tickets: Sequence[_Ticket]) -> Table:
    """Table 1: tickets found in the trained network, by the epoch that they were rewound to."""
    return _by_column(
        f"{name}: accuracy of tickets rewound to an epoch (pp)",
        [
            ticket
            for ticket in tickets
            if ticket.method == "layer" and ticket.found_after_training and ticket.rewound_to is not None
        ],
        ("criterion", "blocks"),
        "rewound_to",
        lambda point: f"{point} weights" if point in _CONTROLS else f"epoch {point}",
        "no layer was removed from a trained network and the rest rewound (`robustprune lottery`)",
    )


def _at_initialization(name: str, tickets: Sequence[_Ticket]) -> Table:
    """Table 2: tickets found at initialization, by how many blocks went."""
    return _by_column(
        f"{name}: accuracy of tickets found at initialization (pp)",
        [ticket for ticket in _without_layers(tickets) if not ticket.found_after_training],
        ("criterion",),
        "blocks",
        lambda count: f"{count} block{'s' * (count > 1)}",
        "no layer was removed from a network at initialization (`robustprune prune`)",
    )


def _layers_or_filters(name: str, tickets: Sequence[_Ticket]) -> Table:
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
        ("criterion", "blocks", "found"),
        "cut",
        str,
        "no network lost filters to match one that lost layers (`robustprune prune --match`)",
    )


def _costs(name: str, tickets: Sequence[_Ticket]) -> Table:
    """Table 4: costs relative to dense."""
    figures = {
        "FLOPs (%)": _saved(lambda record: record.model.macs),
        "memory (%)": _saved(lambda record: record.model.training_memory),
        "CO₂ (%)": lambda own, dense: saved_in_training(own.model.training, dense.model.training).get("co2"),
        "training speed-up (×)": _speedup,
    }
    own = [ticket for ticket in _without_layers(tickets) if ticket.rewound_to in (0, None)]
    return _by_blocks(f"{name}: saved against the dense network", own, figures, "{:.2f}")


def _robustness(name: str, tickets: Sequence[_Ticket]) -> Table:
    """Table 5: accuracy under corruptions and on shifted sets."""
    found = _without_layers(tickets)
    shifts = dict.fromkeys(each.name for ticket in found for own, _ in ticket.pairs.values() for each in own.shift)
    figures = {"corruptions (pp)": _corrupted, **{f"{shift} (pp)": _shifted(shift) for shift in shifts}}
    return _by_blocks(f"{name}: robustness against the dense network", found, figures, "{:+.2f}")


_TABLES: dict[int, Callable[[str, Sequence[_Ticket]], Table]] = {
    1: _rewound,
    2: _at_initialization,
    3: _layers_or_filters,
    4: _costs,
    5: _robustness,
}

_CONTROLS = ("random", "shuffled")
_Figure = Callable[[Record, Record], float | None]


def _without_layers(tickets: Sequence[_Ticket], method: str = "layer") -> list[_Ticket]:
    """Return the tickets of Tables 2 to 5: those with other weights are controls, which Table 1 has."""
    return [ticket for ticket in tickets if ticket.method == method and ticket.rewound_to not in _CONTROLS]


def _by_column(
    title: str,
    tickets: Sequence[_Ticket],
    leading: Sequence[str],
    across: str,
    heading: Callable[[Any], str],
    missing: str,
) -> Table:
    """Return a table of accuracies: a row for all that tickets have alike in some attributes, one attribute across."""
    if not tickets:
        raise _LeftOut(missing)
    lines: dict[tuple[str | int, ...], dict[Any, _Ticket]] = {}
    for ticket in tickets:
        key, place = tuple(getattr(ticket, name) for name in leading), getattr(ticket, across)
        if lines.setdefault(key, {}).setdefault(place, ticket) is not ticket:
            cell = ", ".join(map(str, (*key, place)))
            raise _LeftOut(f"two kinds of tickets belong in one cell ({cell}); report them in two calls")
    places = sorted({place for cells in lines.values() for place in cells}, key=lambda at: (isinstance(at, str), at))
    rows = [[*key, *(_accuracy(cells.get(each)) for each in places)] for key, cells in lines.items()]
    return Table(title, [*leading, *map(heading, places)], rows, _note(tickets))


def _accuracy(ticket: _Ticket | None) -> str | None:
    if ticket is None:
        return None
    differences = [100 * (own.clean.accuracy - dense.clean.accuracy) for own, dense in ticket.pairs.values()]
    return mean_and_half_width(differences, "{:+.2f}")


def _by_blocks(title: str, tickets: Sequence[_Ticket], figures: Mapping[str, _Figure], form: str) -> Table:
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


def _note(tickets: Sequence[_Ticket]) -> str:
    seeds = sorted({len(ticket.pairs) for ticket in tickets})
    if seeds == [1]:
        return f"{_POINTS} where nothing else is said; one seed, so that nothing is known of the spread over seeds."
    many = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return f"{_POINTS} where nothing else is said; mean over {many} seeds ± half its 95 % interval (Student's t)."
