"""What scheduling costs a run: thousands of runs whose stages do nothing, on worker processes or on Ray.

Each run is a stage that nothing else needs: claimed under a lock, published by a rename, all of it flushed to the disk.
Its peer is the disk: a file for each run, written, flushed, and renamed, which no scheduler could do without.

    python benchmarks/sweep.py [--runs 5000] [--engine local|ray] [--workers 2]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from robustprune.runtime.files import write_atomically
from robustprune.sweep import Store
from robustprune.sweep.engines.local import LocalEngine
from robustprune.sweep.graph import Stage, SweepPlan
from robustprune.sweep.scheduler import run_plan
from robustprune.sweep.settings import expand

BUDGET = 0.010  # seconds a run
WORK = "benchmarks.sweep:nothing"  # found by workers from the folder of the project


def nothing(_stage: Stage, _store: Store, _tell: Any) -> dict[str, Any]:
    return {}


def empty_plan(runs: int) -> SweepPlan:
    document = {"dense": False, "pruning": {"criterion": "random", "blocks": 1}, "grid": {"seed": list(range(runs))}}
    plan = SweepPlan()
    for run in expand(document, "benchmark"):
        plan.add_run(run.title, {}, plan.add(Stage("empty", run.model_dump(mode="json"), {}, {}, run.title)))
    return SweepPlan.from_json(plan.to_json())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--engine", choices=["local", "ray"], default="local")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent.parent))
    with tempfile.TemporaryDirectory() as folder:
        engine = make_engine(asked.engine, asked.workers)
        # Starting processes is no cost of a run.
        run_plan(empty_plan(asked.workers), Store(Path(folder, "warm")), engine, ignore, work=WORK)
        start, before = time.perf_counter(), processor_seconds()
        plan = empty_plan(asked.runs)
        planned = time.perf_counter() - start
        state = run_plan(plan, Store(Path(folder, "out")), engine, ignore, work=WORK)
        seconds, computed = time.perf_counter() - start, processor_seconds() - before
        assert state.finished_runs == asked.runs
        start = time.perf_counter()
        again = run_plan(plan, Store(Path(folder, "out")), engine, ignore, work=WORK)
        repeated = time.perf_counter() - start
        assert again.finished_runs == asked.runs
        engine.close()
        start = time.perf_counter()
        for run in range(asked.runs):
            write_atomically(Path(folder, "disk", f"{run % 100}", str(run)), b"{}")
        disk = time.perf_counter() - start
    each = seconds / asked.runs
    print(f"{asked.runs} empty runs on {asked.engine}, {asked.workers} workers: {1000 * each:.2f} ms a run")
    print(f"  of which making the plan {1000 * planned / asked.runs:.2f} ms; over again {repeated:.2f} s for all")
    print(f"  processors computed {1000 * computed / asked.runs:.2f} ms of it, in all processes of the sweep")
    print(f"  ratio to writing one file a run: {seconds / disk:.2f}; torch imported: {'torch' in sys.modules}")
    if each > BUDGET:
        print(f"  more than the {1000 * BUDGET:.0f} ms that were promised")


def processor_seconds() -> float:
    """Return what this process and all that it has started, Ray's included, have computed so far."""
    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def make_engine(name: str, workers: int) -> Any:
    if name == "local":
        return LocalEngine(workers)
    from robustprune.sweep.engines.ray import RayEngine

    return RayEngine(workers=workers)


def ignore(_state: Any, _address: str) -> None:
    pass


if __name__ == "__main__":
    main()
