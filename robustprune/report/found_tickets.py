"""Tickets as the paper tells them apart, each beside the dense networks of its seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from robustprune.records import Record

Method = Literal["layer", "filter"]


@dataclass(frozen=True)
class PaperTicket:
    """A way to find a ticket, and what came of it for each seed.

    Attributes:
        method: What was removed.
        criterion: The ranking, with those of its options that set it apart from others in the same table.
        blocks: How many blocks went; of filters, those of the ticket that was matched.
        found_after_training: Whether the ranking was made in a trained network.
        rewound_to: Epoch, ``random``, or None.
        pairs: Seed → the ticket's record and the dense network's.
    """

    method: Method
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
    for record in records:
        groups.setdefault(_alike(record), []).append(record)
    names = [key[:2] for key in groups]
    contexts = []
    for key, members in sorted(groups.items()):
        title = f"{key[0]} on {key[1]}"
        if names.count(key[:2]) > 1:
            title += f", {key[2] or 'untrained'}, images {key[3][:8]}"
        contexts.append(Context(title, tuple(_tickets(members))))
    return contexts


def _alike(record: Record) -> tuple[str, ...]:
    recipe = record.model.training.get("recipe") or {}
    settings = ", ".join(f"{name} {value}" for name, value in sorted(recipe.items()) if value is not None)
    return record.model.architecture, record.dataset, settings, record.samples_sha256


def _tickets(records: list[Record]) -> Iterable[PaperTicket]:
    dense: dict[int | None, Record] = {}
    found: dict[str, dict[int | None, Record]] = {}
    for record in records:
        plan = record.model.plan
        if plan.get("method", "none") == "none":
            dense.setdefault(record.model.seed, record)
        elif plan["method"] in ("layer", "filter") and not plan.get("earlier"):
            found.setdefault(json.dumps(_identity(record), sort_keys=True), {}).setdefault(record.model.seed, record)
    names = _names([json.loads(identity) for identity in found])
    for (identity, own), name in zip(found.items(), names, strict=True):
        pairs = {seed: (record, dense[seed]) for seed, record in sorted(own.items(), key=str) if seed in dense}
        if pairs:
            told = json.loads(identity)
            yield PaperTicket(told["method"], name, told["blocks"], told["after"], told["rewound"], pairs)


def _identity(record: Record) -> dict[str, Any]:
    """Return what makes two records those of one way to find a ticket."""
    plan = record.model.plan
    match = plan.get("match") or {}
    return {
        "method": plan["method"],
        "criterion": plan.get("criterion") or "unknown",
        "options": plan.get("options") or {},
        "eligibility": plan.get("eligibility"),
        "variant": plan.get("variant"),
        "match": match.get("by"),
        "blocks": len(match["removed"] if match else plan.get("removed", ())),
        "after": bool(record.model.earlier_training),
        "rewound": plan.get("rewound_to"),
    }


def _names(identities: list[dict[str, Any]]) -> list[str]:
    """Return the criterion of each, and what sets it apart from others of the same criterion and method."""
    names = []
    for own in identities:
        alike = [
            each for each in identities if (each["criterion"], each["method"]) == (own["criterion"], own["method"])
        ]
        options = {key for each in alike for key in each["options"]}
        told = [
            f"{key} {own['options'].get(key)}"
            for key in sorted(options)
            if len({json.dumps(each["options"].get(key)) for each in alike}) > 1
        ]
        told += [str(own[key]) for key in ("eligibility", "variant", "match") if len({each[key] for each in alike}) > 1]
        names.append(f"{own['criterion']} ({', '.join(told)})" if told else own["criterion"])
    return names
