"""Training, PGD and scoring alone, beside busy processes (one, and one for each processor), and two at a time.

With threads that spin while they wait, as torch comes, and with threads that soon sleep, as the command line has them:
ResNet20 on digits, processes of all kinds in turn, which wait in between. Figures are medians over rounds, ratios are
those within a round. The machine has to be quiet. Exits with 1 where quiet threads are slower than 0.95 of the others
alone, or beside one busy process do less than half of what they do alone. --spins tries other values of GOMP_SPINCOUNT.

    python benchmarks/busy.py [--rounds 5] [--seconds 3] [--threads 2] [--size 8] [--spins 100,1000] [--only training]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from statistics import median

from robustprune.runtime.threads import QUIET, processors

BUSY = {"beside one busy process": 1, "one for each processor": processors()}
"""Condition → how many processes are busy."""

AS_IT_COMES = "as torch comes"
CONDITIONS = ("alone", *BUSY, "two at a time")
WORK = ("training", "pgd", "scoring")
LEAST_ALONE, LEAST_BUSY = 0.95, 0.5


class Worker:
    """A process that works when it is asked to."""

    def __init__(self, variables: dict[str, str], threads: int, size: int) -> None:
        """Start it, and wait until it is ready."""
        names = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", *QUIET}
        own = {name: value for name, value in os.environ.items() if name not in names}
        command = [sys.executable, __file__, "--serve", f"--threads={threads}", f"--size={size}"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, env=own | variables, stdin=pipe, stdout=pipe, text=True)
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"

    def begin(self, name: str, seconds: float) -> None:
        """Let it work for so long, and for at least one call."""
        assert self._process.stdin
        print(name, seconds, file=self._process.stdin, flush=True)

    def finish(self) -> float:
        """Return how many calls it did a second."""
        assert self._process.stdout
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def batch_of(size: int) -> int:
    """Return how many images of a side are worked on at once: 128, and fewer of large ones."""
    return max(8, min(128, 128 * 28**2 // size**2))


def calls(size: int) -> dict[str, Callable[[], object]]:
    """Return the work: name → a call of it."""
    import torch

    import robustprune as rp
    from robustprune.attacks import run_attack

    batch = batch_of(size)
    data = rp.load_data("digits", image_size=size, train_limit=2 * batch, validation_fraction=0)
    network = rp.build_model("resnet20", data)
    ticket = rp.Ticket.from_model(network, data)
    images, labels = torch.rand(batch, 1, size, size), torch.arange(batch) % 10
    attack = {"epsilon": "1/255", "steps": 5, "early_stop": False}
    return {
        "training": lambda: rp.train(ticket, data, epochs=1, batch_size=batch, country=None),
        "pgd": lambda: run_attack(network, images, labels, "pgd", **attack),
        "scoring": lambda: rp.score_blocks(network, data, criterion="grasp"),
    }


def serve(threads: int, size: int) -> None:
    """Work as the lines of stdin say: name, seconds."""
    import torch

    torch.set_num_threads(threads)
    work = calls(size)
    print("ready", flush=True)
    for line in sys.stdin:
        name, seconds = line.split()
        done, start = 0, time.perf_counter()
        while not done or time.perf_counter() - start < float(seconds):
            work[name]()
            done += 1
        print(done / (time.perf_counter() - start), flush=True)


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep processors busy."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for each in others:
            each.kill()
            each.wait()


def turn(workers: list[Worker], name: str, condition: str, seconds: float) -> float:
    """Return the calls a second under a condition, of all that work."""
    at_work = workers if condition == "two at a time" else workers[:1]
    with busy_processes(BUSY.get(condition, 0)):
        for worker in at_work:
            worker.begin(name, seconds)
        return sum(worker.finish() for worker in at_work)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="Of a turn.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, default=8, help="Side of the images.")
    parser.add_argument("--spins", default=QUIET["GOMP_SPINCOUNT"], help="Values of GOMP_SPINCOUNT, with commas.")
    parser.add_argument("--only", choices=WORK)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.threads, asked.size)
        return 0
    kinds = {
        AS_IT_COMES: {},
        **{f"{spins} spins": {**QUIET, "GOMP_SPINCOUNT": spins} for spins in asked.spins.split(",")},
    }
    workers = {
        kind: [Worker(variables, asked.threads, asked.size) for _ in range(2)] for kind, variables in kinds.items()
    }
    names, found = [asked.only] if asked.only else list(WORK), {}
    try:
        for name in names:
            for kind in kinds:
                turn(workers[kind], name, "two at a time", 0.0)  # to warm up
        for number in range(asked.rounds):
            for name in names:
                for condition in CONDITIONS:
                    for kind in list(kinds)[:: 1 if number % 2 == 0 else -1]:
                        figure = turn(workers[kind], name, condition, asked.seconds)
                        found.setdefault((name, condition, kind), []).append(figure)
    finally:
        for each in workers.values():
            for worker in each:
                worker.close()
    return report(names, list(kinds)[1:], found)


def report(names: list[str], quiet: list[str], found: dict[tuple[str, str, str], list[float]]) -> int:
    """Print the figures, and return 1 where less than promised was found."""
    is_kept = True
    print(f"{'calls a second':46} {AS_IT_COMES}    quiet    ratio")
    for condition, name, kind in product(CONDITIONS, names, quiet):
        before, after = found[name, condition, AS_IT_COMES], found[name, condition, kind]
        ratio = median(new / old for old, new in zip(before, after, strict=True))
        end = ""
        if condition == "alone" and ratio < LEAST_ALONE:
            end = f"  less than {LEAST_ALONE}"
        elif condition == "beside one busy process" and median(after) < LEAST_BUSY * median(found[name, "alone", kind]):
            end = f"  less than {LEAST_BUSY} of what it does alone"
        is_kept &= not end
        print(f"{condition:22} {name:9} {kind:13} {median(before):14.3f} {median(after):8.3f} {ratio:8.2f}{end}")
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
