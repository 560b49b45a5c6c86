"""How long a question to a sweep of a thousand runs takes, the whole command.

The records are those of a real evaluation, with as many attacks, corruptions and detectors as the example's, under a
thousand addresses. Its peer is reading the same files with the standard library's JSON alone.

    python benchmarks/sweep_query.py [--runs 1000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from robustprune.sweep import Store
from robustprune.sweep.graph import Stage, SweepPlan

PROMISED = 2.0  # seconds
EXAMPLE = Path(__file__).parent.parent / "examples" / "sweep-digits.yaml"
# The record has all that the example's have; that network is hardly trained, and looked at on few images.
SMALLER = ("recipe.epochs=1", "evaluate.limit=30", "evaluate.attacks.steps=2", "dense=false")
ONE = ("grid.pruning.criterion=[grasp]", "grid.pruning.blocks=[3]", "grid.seed=[0]")
PROGRAM = [sys.executable, "-m", "robustprune"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home, "runs")
        size = fill(folder, asked.runs, one_record(Path(home, "one")))
        print(f"{asked.runs} records of {size / 1024:.0f} KiB each")
        times = [ask(folder, asked.runs) for _ in range(asked.rounds)]
        start = time.perf_counter()
        for path in folder.glob("stages/*/record.json"):
            json.loads(path.read_text())
        peer = time.perf_counter() - start
    clock, processor = median(each for each, _ in times), median(each for _, each in times)
    print(f"asked: {clock:.2f} s by the clock, {processor:.2f} s of a processor; ", end="")
    print(f"ratio to reading all records: {clock / peer:.1f}")
    if clock > PROMISED:
        print(f"  more than the {PROMISED:.0f} s that were promised")


def one_record(out: Path) -> dict[str, Any]:
    changes = [word for setting in (*SMALLER, *ONE) for word in ("--set", setting)]
    command = [*PROGRAM, "sweep", str(EXAMPLE), "--out", str(out), "--workers", "1", "--json", *changes]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    ((_, path),) = json.loads(done.stdout)["records"].items()
    found: dict[str, Any] = json.loads(Path(path).read_text())
    return found


def fill(folder: Path, runs: int, record: dict[str, Any]) -> int:
    """Make the folder of a sweep with so many runs; return how many bytes a record has."""
    plan, store = SweepPlan(), Store(folder)
    text = json.dumps(record, indent=2)
    for number in range(runs):
        address = plan.add(Stage("evaluate", {"number": number}, label=f"run {number}"))
        settings = {"criterion": ("grasp", "snip")[number % 2], "blocks": number % 5 + 1, "seed": number}
        plan.add_run(f"run {number}", {**settings, "method": "layer"}, address)
        home = store.stage(address)
        home.mkdir(parents=True)
        (home / "stage.json").write_text("{}")
        (home / "record.json").write_text(text)
    store.plan_file("mine").parent.mkdir()
    store.plan_file("mine").write_text(plan.to_json())
    return len(text)


def ask(folder: Path, runs: int) -> tuple[float, float]:
    """Return how long a question takes by the clock, and how long processors took."""
    command = [*PROGRAM, "query", str(folder), "--where", "criterion=='grasp' and blocks>=3", "--json"]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert len(json.loads(done.stdout)) == sum(number % 2 == 0 and number % 5 >= 2 for number in range(runs))
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
