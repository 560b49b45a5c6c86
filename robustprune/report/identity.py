"""What records say of how a network was found and trained, and which of it tells records apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

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
