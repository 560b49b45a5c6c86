"""What is left of a sweep's folder once time and place are taken away."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from robustprune.sweep import Store
from robustprune.tickets.ticket import load_ticket

_TIME_AND_PLACE = {
    *("seconds", "environment", "path", "scoring_seconds", "images_per_second", "energy_kwh", "co2_kg"),
    *("energy_method", "created"),
}


def essence(folder: Path) -> dict[str, Any]:
    """Return the records of all runs, the outcomes per sample, and the hashes of all tickets."""
    store = Store(folder)
    found: dict[str, Any] = {}
    for address in sorted(store.done()):
        home = store.stage(address)
        if (home / "record.json").exists():
            found[address] = _without(json.loads((home / "record.json").read_text()))
            with np.load(home / "record.json.samples.npz") as samples:
                found[f"{address} samples"] = {name: samples[name].tolist() for name in samples.files}
        elif (home / "ticket.pt").exists():
            found[address] = load_ticket(home / "ticket.pt").sha256
        elif (home / "scores.json").exists():
            found[address] = _without(json.loads((home / "scores.json").read_text()))
    return found


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without(each) for name, each in value.items() if name not in _TIME_AND_PLACE}
    return [_without(each) for each in value] if isinstance(value, list) else value


def leftovers(folder: Path) -> list[str]:
    """Return what should not lie in the folder of a sweep that is over: temporary files, work, failures."""
    found = [os.path.join(home, name) for home, _, names in os.walk(folder) for name in names]
    wrong = [path for path in found if path.endswith((".tmp", ".checkpoint")) or "/work/" in path]
    return wrong + [str(path) for path in (*folder.glob("work/*"), *folder.glob("failures/*"))]
