"""A table whose truth is known: what a ticket is worth is laid down, and nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from robustprune.data import load_data
from robustprune.models import build_model
from robustprune.pruning import find_blocks, kept_profile, removable_subsets
from robustprune.tables.ticket_table import TicketTable

MakeTable = Callable[..., TicketTable]
SPEC = {"name": "tiny/digits", "model": "resnet20", "model_options": {"width": 2}, "data": "digits", "seeds": 4}


@pytest.fixture(scope="session")
def make_table() -> MakeTable:
    blocks = find_blocks(build_model("resnet20", load_data("digits"), width=2))

    def make(worth: Callable[[int, tuple[str, ...]], Mapping[str, float]], seeds: int = 4) -> TicketTable:
        rows: list[dict[str, Any]] = []
        for seed in range(seeds):
            for removed in removable_subsets(blocks):
                cost = 100 - 10 * len(removed)
                rows.append(
                    {
                        "seed": seed,
                        "method": "layer" if removed else "dense",
                        "kept": "-".join(map(str, kept_profile(blocks, removed))),
                        "removed": ", ".join(removed),
                        "match_by": None,
                        **dict.fromkeys(("parameters", "macs", "filters", "training_memory"), cost),
                        "training_seconds": float(cost),
                        "training_energy_kwh": None,
                        "sha256": "0" * 64,
                        **worth(seed, removed),
                    }
                )
        return TicketTable(rows, {"name": "tiny/digits", "spec": {**SPEC, "seeds": seeds}, "images": 10})

    return make
