"""Work for schedulers under test: imported by the workers, too, so it is light."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from robustprune.errors import PruningError, SweepError
from robustprune.runtime.files import write_atomically
from robustprune.sweep.engines.local import LocalEngine
from robustprune.sweep.graph import Stage, SweepPlan
from robustprune.sweep.scheduler import run_plan
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


def plan_of(*chains: tuple[str, ...], seconds: float = 0.0) -> SweepPlan:
    """Return a plan with a run for every chain; stages of one name after equal ones are one stage."""
    plan = SweepPlan()
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


BUILDING = "sweep_stages:build"
_STEPS, _BYTES = 6, 12_000


def build(stage: Stage, store: Store, _tell: Callable[[str, float], None]) -> dict[str, object]:
    """Go step by step to a file that depends on all steps and on what was needed, from the last step that was kept."""
    work = store.work(stage.address)
    for leftover in work.glob(".*.tmp"):  # as real stages do
        leftover.unlink()
    kept, made = work / "kept.json", b""
    state = json.loads(kept.read_text()) if kept.exists() else {"step": 0, "digest": ""}
    for step in range(state["step"], _STEPS):
        needed = "".join((store.stage(need) / "0.bin").read_bytes().hex() for need in stage.needs.values())
        text = f"{state['digest']}{step}{stage.inputs['name']}{needed}"
        state = {"step": step + 1, "digest": hashlib.sha256(text.encode()).hexdigest()}
        write_atomically(kept, json.dumps(state).encode())
        time.sleep(0.005)
    for part in range(2):
        while len(made) < _BYTES * (part + 1):
            made += hashlib.sha256(made + state["digest"].encode()).digest()
        write_atomically(work / f"{part}.bin", made)
    kept.unlink()
    return {}


def build_all(folder: str) -> None:
    """Carry a plan of such stages out, as a process of its own; exit code 28 says that there is no room left."""
    chains = [("dense", f"ticket {number}", "test") for number in range(10)]
    store, engine = Store(folder), LocalEngine(2)
    for address in store.failed():
        store.forget_failure(address)
    try:
        state = run_plan(plan_of(*chains), store, engine, lambda _state, _address: None, work=BUILDING)
    except SweepError as error:
        raise SystemExit(28 if "there is no room left" in str(error) else str(error)) from error
    finally:
        engine.close()
    raise SystemExit(0 if state.finished_runs == len(chains) else 1)
