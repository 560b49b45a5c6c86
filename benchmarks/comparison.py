"""How long it takes to compare 200 records of 10,000 samples each, and in how much memory.

The records are made up, written as evaluate writes them (four attacks, 75 cells of corruptions, three detectors on two
OOD sets, two shifted sets), and compared from their files: a dense network and 19 candidates, ten seeds each. Exits
with 1 where it takes more than 40 s of processor time, which neighbours on the machine do not lengthen, or 1.5 GB.
Making the records takes longer than comparing them.

    python benchmarks/comparison.py [--records 200] [--samples 10000] [--keep DIR] [--threads 1]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MOST_SECONDS, MOST_GIGABYTES = 40.0, 1.5
SEEDS = 10
_COMPARE = """
import resource, sys, time
from pathlib import Path
import torch  # which any use of the package loads
from robustprune.comparison import compare
start, busy = time.perf_counter(), time.process_time()
groups = {path.name: path for path in sorted(Path(sys.argv[1]).iterdir())}
found = compare(groups.pop("dense"), groups)
seconds = time.perf_counter() - start
print(len(found.rows), seconds, time.process_time() - busy, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def write_records(folder: Path, records: int, samples: int) -> None:
    """Write records of candidates, ten seeds each, to folders of their names; those that are there stay."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from synthetic_records import make_record

    from robustprune.corruptions import HEADLINE

    for place in range(records):
        kind = "dense" if place < SEEDS else f"ticket{place // SEEDS}"
        path = folder / kind / f"{place % SEEDS}.json"
        if not path.exists():
            make_record(
                kind=kind,
                seed=place % SEEDS,
                n=samples,
                accuracy=0.9 - 0.002 * (place // SEEDS),
                attacks=(("fgsm", 2 / 255), ("fgsm", 8 / 255), ("pgd", 2 / 255), ("pgd", 8 / 255)),
                corruptions=HEADLINE,
                detectors=("energy", "knn", "msp"),
                ood_sets=("svhn", "cifar100"),
                shift=("cifar10.1", "cifar10.2"),
            ).save(path)


def read_options(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=200)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="Folder to write the records to, or to find them in.")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def run_apart(program: str, *arguments: Path, threads: int) -> list[float]:
    """Return the numbers that a program prints last, in a process of its own: its peak of memory is its own, too."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
    )
    return [float(number) for number in done.stdout.splitlines()[-1].split()]


def main() -> int:
    options = read_options(__doc__)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        start = time.perf_counter()
        write_records(folder, options.records, options.samples)
        print(f"{options.records} records of {options.samples} samples made in {time.perf_counter() - start:.0f} s")
        rows, seconds, busy, gigabytes = run_apart(_COMPARE, folder, threads=options.threads)
    print(f"{rows:.0f} rows compared in {seconds:.1f} s, {busy:.1f} s of processor time, at most {MOST_SECONDS:.0f}")
    print(f"peak memory {gigabytes:.2f} GB, at most {MOST_GIGABYTES}")
    return int(busy > MOST_SECONDS or gigabytes > MOST_GIGABYTES)


if __name__ == "__main__":
    sys.exit(main())
