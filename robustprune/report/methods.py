"""Which method a record is a seed of: how its network was found and trained, and what tells records apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from robustprune.comparison import DENSE
from robustprune.records import Record


def identity(record: Record) -> dict[str, Any]:
    """Return what makes two records those of one way to find a ticket."""
    plan = record.model.plan
    match = plan.get("match") or {}
    after, rewound = bool(record.model.earlier_training), plan.get("rewound_to")
    return {
        "method": plan.get("method", "none"),
        "criterion": plan.get("criterion") or "unknown",
        "options": plan.get("options") or {},
        "eligibility": plan.get("eligibility"),
        "variant": plan.get("variant"),
        "match": match.get("by"),
        "blocks": len(match["removed"] if match else plan.get("removed", ())),
        "after": after,
        # What was found at initialization has the weights of then, whether or not it was set back to them.
        "rewound": None if rewound == 0 and not after else rewound,
    }


def recipe(record: Record) -> dict[str, Any]:
    """Return the settings that a network was trained with; none where it was not trained."""
    return {name: value for name, value in (record.model.training.get("recipe") or {}).items() if value is not None}


def differing(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of what is not the same in all of them."""
    return [
        name
        for name in sorted({name for each in facts for name in each})
        if len({json.dumps(each.get(name), sort_keys=True) for each in facts}) > 1
    ]


def name_method(record: Record) -> str:
    """Return what the seeds of a method have in common, for readers: ``grasp, 4 layers``."""
    plan = record.model.plan
    method, criterion = plan.get("method", "none"), plan.get("criterion")
    if method == "none":
        name = DENSE
    elif method == "layer":
        name = f"{criterion}, {_layers(len(plan['removed']))}"
    elif method == "filter":
        match = plan.get("match")
        matched = f" like {_layers(len(match['removed']))}" if match and match["removed"] else ""
        uniform = " uniformly" if plan.get("variant") == "uniform" else ""
        size = matched or f", {sum(map(len, plan['removed_filters'].values()))}"
        name = f"{criterion}, filters{uniform}{size}"
    else:
        name = f"{criterion}, {100 * (plan.get('sparsity') or 0):.4g} % of weights"
    rewound = identity(record)["rewound"]
    return name if rewound is None else f"{name}, rewound to {rewound}"


def _layers(count: int) -> str:
    return f"{count} layer{'s' if count != 1 else ''}"


def name_context(record: Record) -> str:
    """Return what records that may be compared have in common, for readers: network, image set and defence."""
    recipe = record.model.training.get("recipe") or {}
    defences = [recipe.get(name) for name in ("adversarial", "defence")]
    hardened = " and ".join(str(name) for name in defences if name not in (None, "none"))
    return f"{record.model.architecture} on {record.dataset}{f', trained with {hardened}' if hardened else ''}"


def method_facts(record: Record) -> dict[str, Any]:
    """Return what may set a network apart from others whose method has the same name."""
    own = identity(record)
    return {
        "found": "in the trained network" if own["after"] else "at initialization",
        **{name: own[name] for name in ("eligibility", "variant")},
        "matched by": own["match"],
        **{f"with {name}": value for name, value in own["options"].items()},
        **{f"trained with {name}": value for name, value in recipe(record).items()},
    }


def fullest(records: Sequence[Record]) -> list[Record]:
    """Return the records without those whose network and images another one has, with all that they have measured."""
    alike: dict[tuple[str, ...], list[tuple[int, set[str]]]] = {}
    for place, record in enumerate(records):
        # Several ways to find a ticket may end at one network, which is the ticket of each.
        ways = json.dumps(method_facts(record), sort_keys=True, default=str)
        key = (name_context(record), name_method(record), ways, record.model.sha256, record.samples_sha256)
        alike.setdefault(key, []).append((place, _content(record)))
    kept = [
        place
        for own in alike.values()
        for place, content in own
        # Of two with the same content, the first one stays.
        if not any(content < more or (content == more and other < place) for other, more in own)
    ]
    return [records[place] for place in sorted(kept)]


def _content(record: Record) -> set[str]:
    """Return what was measured, with the settings that decide it."""
    attacks = {f"attack {each.name} {each.norm} {each.epsilon} {each.options} {record.seed}" for each in record.attacks}
    corrupted = set()
    if record.corruptions is not None:
        corrupted = {
            f"corruption {record.corruptions.source} {record.seed} {name}" for name in record.corruptions.table
        }
    detected = {f"ood {each.dataset} {sorted(each.detectors)}" for each in record.ood}
    shifted = {f"shift {each.name}" for each in record.shift}
    timed = {"latency"} if record.model.latency_ms else set()
    return attacks | corrupted | detected | shifted | timed
