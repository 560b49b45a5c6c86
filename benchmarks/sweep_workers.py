"""How much sooner two workers finish a sweep than one, each with one thread: the same sweep, one after the other.

Whole processes by the clock, reading the file and importing torch included. The machine has to be quiet: the share of
their processors that the workers got is printed beside it.

    python benchmarks/sweep_workers.py [--rounds 1] [--sweep examples/sweep-digits.yaml] [--set recipe.epochs=2]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from robustprune.runtime.threads import processors

PROMISED = 1.7
EXAMPLE = Path(__file__).parent.parent / "examples" / "sweep-digits.yaml"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sweep", type=Path, default=EXAMPLE)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    asked = parser.parse_args()
    if processors() < 2:
        print("two workers need two processors; there is one")
        return
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(asked.rounds):
        for workers in (1, 2) if turn % 2 == 0 else (2, 1):
            took, computed = sweep(asked.sweep, asked.settings, workers)
            seconds[workers].append(took)
            share = computed / took / workers
            print(f"{workers} worker{'s' * (workers > 1)}: {took:.1f} s, {100 * share:.0f} % of a processor each")
    ratio = median(seconds[1]) / median(seconds[2])
    print(f"two workers finish {ratio:.2f} times as soon as one")
    if ratio < PROMISED:
        print(f"  less than the {PROMISED} that were promised")


def sweep(file: Path, settings: list[str], workers: int) -> tuple[float, float]:
    """Return how long a sweep takes by the clock, and how much of it processors spent on it."""
    changes = [word for setting in settings for word in ("--set", setting)]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "robustprune", "sweep", str(file), "--out", str(Path(folder, "out"))]
        before, start = processor_seconds(), time.perf_counter()
        done = subprocess.run(
            [*command, "--workers", str(workers), "--json", *changes],
            env={**os.environ, **ONE_THREAD},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        took, computed = time.perf_counter() - start, processor_seconds() - before
    found = json.loads(done.stdout)
    assert found["finished"] == found["runs"]
    assert found["done_now"] == found["stages"]
    return took, computed


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
