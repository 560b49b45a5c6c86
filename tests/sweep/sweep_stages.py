"""Work for schedulers under test: imported by the workers, too, so it is light."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from robustprune.errors import PruningError
from robustprune.sweep.graph import Plan, Stage
from robustprune.sweep.store import Store

COUNTING = "sweep_stages:count"
EVIL = "sweep_stages:misbehave"


def count(stage: Stage, store: Store, _tell: Callable[[str, float], None]) -> dict[str, object]:
    """Leave a line for every time that a stage is worked on, and the names of what it needed."""
    with (store.folder / "calls.txt").open("a") as stream:
        stream.write(f"{stage.inputs['name']}\n")
    for need in stage.needs.values():
        assert (store.stage(need) / "out.txt").exists()
    time.sleep(stage.hints.get("seconds", 0))
    (store.work(stage.address) / "out.txt").write_text(stage.inputs["name"])
    return {}


def misbehave(stage: Stage, store: Store, tell: Callable[[str, float], None]) -> dict[str, object]:
    """Do what a stage's name says, unless a file says that it is mended."""
    if not (store.folder / "mended").exists():
        if stage.inputs["name"] == "raise":
            raise PruningError("cannot be cut")
        if stage.inputs["name"] == "defect":
            raise ZeroDivisionError("a defect")
        if stage.inputs["name"] == "no room":
            raise PruningError("cannot be written") from OSError(28, "No space left on device")
        if stage.inputs["name"] == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if stage.inputs["name"] == "die once" and not (store.folder / "died").exists():
            (store.folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return count(stage, store, tell)


def plan_of(*chains: tuple[str, ...], seconds: float = 0.0) -> Plan:
    """Return a plan with a run for every chain; stages of one name after equal ones are one stage."""
    plan = Plan()
    for chain in chains:
        address = ""
        for name in chain:
            needs = {"before": address} if address else {}
            address = plan.add(Stage("made up", {"name": name}, needs, {"seconds": seconds}, name))
        plan.add_run(" ".join(chain), {}, address)
    return plan


def calls(folder: Path) -> list[str]:
    path = folder / "calls.txt"
    return sorted(path.read_text().split("\n")[:-1]) if path.exists() else []
