"""Tickets as the paper tells them apart, each beside the dense networks of its seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from robustprune.records import Record
from robustprune.report.methods import differing, fullest, identity, recipe


@dataclass(frozen=True)
class PaperTicket:
    """A way to find a ticket, and what came of it for each seed.

    Attributes:
        method: What was removed: ``layer`` or ``filter``.
        cut: The same in words: ``layers``, or ``filters`` with what sets them apart from others by that criterion.
        criterion: The ranking, with those of its options that set it apart from others in the same table.
        blocks: How many blocks went; of filters, those of the ticket that was matched.
        found_after_training: Whether the ranking was made in a trained network.
        rewound_to: Epoch, ``random``, or None.
        pairs: Seed → the ticket's record and the dense network's.
    """

    method: str
    cut: str
    criterion: str
    blocks: int
    found_after_training: bool
    rewound_to: int | Literal["random"] | None
    pairs: Mapping[int | None, tuple[Record, Record]]

    @property
    def found(self) -> str:
        """Where it was found, and what its weights were set back to."""
        if not self.found_after_training:
            return "at initialization"
        return "in the trained network" + ("" if self.rewound_to is None else f", rewound to {self.rewound_to}")


def gather(records: Iterable[Record]) -> dict[str, list[PaperTicket]]:
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


def _tickets(records: list[Record]) -> Iterator[PaperTicket]:
    dense: dict[int | None, Record] = {}
    found: dict[str, dict[int | None, Record]] = {}
    for record in records:
        plan = record.model.plan
        if plan.get("method", "none") == "none":
            dense.setdefault(record.model.seed, record)
        elif plan["method"] in ("layer", "filter") and not plan.get("earlier"):
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
        yield PaperTicket(
            method=own["method"],
            cut=f"{own['method']}s" + _in_brackets(str(own[key]) for key in reversed(taken)),
            criterion=own["criterion"] + _in_brackets(f"{key} {ranking.get(key)}" for key in ranked),
            blocks=own["blocks"],
            found_after_training=own["after"],
            rewound_to=own["rewound"],
            pairs=pairs,
        )


def _in_brackets(texts: Iterable[str]) -> str:
    joined = ", ".join(texts)
    return f" ({joined})" if joined else ""
