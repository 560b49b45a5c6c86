"""At which look a sweep stands that goes on until its verdicts are decided; read from its files alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from robustprune.sweep.graph import SweepPlan
from robustprune.sweep.store import Store


def current_look(plan: SweepPlan, store: Store) -> int:
    """Return the place of the look that a sweep stands at: the last one, once nothing is left to be decided."""
    for place, look in enumerate(plan.looks):
        if not all(map(store.is_done, look["comparisons"])) or _is_over(look["comparisons"], store):
            return place
    return len(plan.looks) - 1


def stands_at(plan: SweepPlan, store: Store) -> SweepPlan:
    """Return what there is to do of a plan now: all of it, or what leads to the look that the sweep stands at."""
    return plan.at_look(current_look(plan, store)) if plan.looks else plan


def describe_look(plan: SweepPlan, store: Store) -> dict[str, Any] | None:
    """Return at which look a sweep stands, for JSON; None for one that looks once."""
    if not plan.looks:
        return None
    look = plan.looks[0]
    is_over = all(map(store.is_done, look["comparisons"])) and _is_over(look["comparisons"], store)
    return {name: look[name] for name in ("number", "of", "seeds", "most_seeds")} | {"is_over": is_over}


def _is_over(comparisons: Sequence[str], store: Store) -> bool:
    found = [json.loads((store.stage(each) / "comparison.json").read_text()) for each in comparisons]
    return all(each["look"]["is_last"] for each in found)
