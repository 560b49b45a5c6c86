"""Tables whose truth is known: what a ticket is worth is laid down, and nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from robustprune.pruning import kept_profile
from robustprune.tables.table_spec import TableSpec, read_spec
from robustprune.tables.ticket_table import TicketTable

Worth = Callable[[int, tuple[str, ...]], Mapping[str, Any]]
SPEC = {"name": "tiny/digits", "model": "resnet20", "model_options": {"width": 2}, "data": "digits", "seeds": 4}


@cache
def spec_of(seeds: int, **changes: Any) -> TableSpec:
    return read_spec({**SPEC, "seeds": seeds, **changes}, "tiny")  # which builds a network to find its blocks


def make_table(worth: Worth, seeds: int = 4, **changes: Any) -> TicketTable:
    """Return a table of all tickets; ``worth`` says what came of a seed's network without some blocks."""
    rows: list[dict[str, Any]] = []
    spec = spec_of(seeds, **changes)
    for seed in range(seeds):
        for removed in ((), *spec.subsets(seed)):
            cost = 100 - 10 * len(removed)
            rows.append(
                {
                    "seed": seed,
                    "method": "layer" if removed else "dense",
                    "kept": "-".join(map(str, kept_profile(spec.blocks, removed))),
                    "removed": ", ".join(removed),
                    "match_by": None,
                    **dict.fromkeys(("parameters", "macs", "filters", "training_memory"), cost),
                    "training_seconds": float(cost),
                    "training_energy_kwh": None,
                    "sha256": "0" * 64,
                    **worth(seed, removed),
                }
            )
    plain = spec.model_dump(mode="json", exclude={"pruning", "seed"})
    return TicketTable(rows, {"name": "tiny/digits", "spec": plain, "images": 10})
