"""Tickets as the paper tells them apart, each beside the dense networks of its seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from robustprune.records import Record
from robustprune.report.grouping import differing, fullest, identity, recipe

Method = Literal["layer", "filter"]


@dataclass(frozen=True)
class PaperTicket:
    """A way to find a ticket, and what came of it for each seed.

    Attributes:
        method: What was removed.
        cut: The same in words: ``layers``, or ``filters`` with what sets them apart from others by that criterion.
        criterion: The ranking, with those of its options that set it apart from others in the same table.
        blocks: How many blocks went; of filters, those of the ticket that was matched.
        found_after_training: Whether the ranking was made in a trained network.
        rewound_to: Epoch, ``random``, or None.
        pairs: Seed → the ticket's record and the dense network's.
    """

    method: Method
    cut: str
    criterion: str
    blocks: int
    found_after_training: bool
    rewound_to: int | Literal["random"] | None
    pairs: Mapping[int | None, tuple[Record, Record]]


@dataclass(frozen=True)
class Context:
    """Tickets that belong in one table: of one network and image set, trained and tested alike.

    Attributes:
        title: Which.
        tickets: All of them.
    """

    title: str
    tickets: tuple[PaperTicket, ...] = field(repr=False)

    def of(self, method: Method, has: Callable[[PaperTicket], bool]) -> list[PaperTicket]:
        """Return the tickets of a method that have a property."""
        return [ticket for ticket in self.tickets if ticket.method == method and has(ticket)]


def gather(records: Iterable[Record]) -> list[Context]:
    """Return the contexts of records in the order of their titles; tickets without a dense network are left out."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in fullest(list(records)):
        groups.setdefault(_alike(record), []).append(record)
    titled = {_title(members[0], [each[0] for each in groups.values()]): members for members in groups.values()}
    return [Context(title, tuple(_tickets(members))) for title, members in sorted(titled.items())]


def _alike(record: Record) -> tuple[str, ...]:
    trained = json.dumps(recipe(record), sort_keys=True)
    return record.model.architecture, record.dataset, trained, record.samples_sha256


def _title(own: Record, others: list[Record]) -> str:
    """Return what a context is called: the network, the image set, and what sets it apart from others of both."""
    alike = [
        each for each in others if (each.model.architecture, each.dataset) == (own.model.architecture, own.dataset)
    ]
    mine, recipes = recipe(own), [recipe(each) for each in alike]
    title = f"{own.model.architecture} on {own.dataset}"
    different = differing(recipes)
    if different:
        title += "".join(f", {name} {mine.get(name)}" for name in different) if mine else ", untrained"
    if len({each.samples_sha256 for each in alike}) > 1:
        title += f", {own.n:,} images ({own.samples_sha256[:8]})"
    return title


def _tickets(records: list[Record]) -> Iterable[PaperTicket]:
    dense: dict[int | None, Record] = {}
    found: dict[str, dict[int | None, Record]] = {}
    for record in records:
        plan = record.model.plan
        if plan.get("method", "none") == "none":
            dense.setdefault(record.model.seed, record)
        elif plan["method"] in ("layer", "filter") and not plan.get("earlier"):
            found.setdefault(json.dumps(identity(record), sort_keys=True), {}).setdefault(record.model.seed, record)
    identities = [json.loads(way) for way in found]
    names, cuts = _names(identities), _cuts(identities)
    for (way, own), name, cut in zip(found.items(), names, cuts, strict=True):
        pairs = {seed: (record, dense[seed]) for seed, record in sorted(own.items(), key=str) if seed in dense}
        if pairs:
            told = json.loads(way)
            yield PaperTicket(told["method"], cut, name, told["blocks"], told["after"], told["rewound"], pairs)


def _names(identities: list[dict[str, Any]]) -> list[str]:
    """Return the criterion of each, and what sets its ranking apart from others of the same criterion and method."""
    names = []
    for own in identities:
        alike = [each["options"] | {"eligibility": each["eligibility"]} for each in _alike_in_method(own, identities)]
        mine = own["options"] | {"eligibility": own["eligibility"]}
        told = [
            str(mine.get(key)) if key == "eligibility" else f"{key} {mine.get(key)}"
            for key in sorted({key for each in alike for key in each}, key=lambda key: (key == "eligibility", key))
            if len({json.dumps(each.get(key)) for each in alike}) > 1
        ]
        names.append(f"{own['criterion']} ({', '.join(told)})" if told else own["criterion"])
    return names


def _cuts(identities: list[dict[str, Any]]) -> list[str]:
    """Return what was cut, in words; ways to take filters are told apart where one criterion went several."""
    cuts = []
    for own in identities:
        alike = _alike_in_method(own, identities)
        told = [str(own[key]) for key in ("variant", "match") if len({each[key] for each in alike}) > 1]
        cuts.append(f"{own['method']}s" + (f" ({', '.join(told)})" if told else ""))
    return cuts


def _alike_in_method(own: dict[str, Any], identities: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kind = own["criterion"], own["method"]
    return [each for each in identities if (each["criterion"], each["method"]) == kind]
