"""How long ordinary commands take as whole processes, from the shell's call to the prompt.

Medians over rounds in which the commands take turns; processor time beside wall time, as a busy machine stretches only
the latter. Exits with 1 where processor time is over the limit: --help 0.3 s, lists and errors of usage 0.5 s, an
evaluation of a digits ticket with FGSM 6 s.

    python benchmarks/startup.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

OURS = ("-m", "robustprune")
KINDS = ("criteria", "attacks", "corruptions", "detectors", "models", "datasets")
TICKET = ("prune", "--model", "resnet32", "--blocks", "4", "--criterion", "random", "--out", "ticket.pt")
COMMANDS = {
    "--help": (0.15, 0, ("--help",)),
    "evaluate --help": (0.15, 0, ("evaluate", "--help")),
    **{f"list {kind}": (0.5, 0, ("list", kind)) for kind in KINDS},
    "an unknown option": (0.5, 2, ("prune", "--blok", "1")),
    "an unknown command": (0.5, 2, ("prun",)),
    "evaluate --attack fgsm": (6.0, 0, ("evaluate", "--model", "ticket.pt", "--attack", "fgsm", "--threads", "1")),
}
"""Label → limit in seconds, exit code, arguments."""
PEERS = {"python, importing click and rich": "import click, rich", "python, importing torch": "import torch"}
"""What no command can be faster than, on this machine at this moment."""

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""With bytecode kept, as in an ordinary installation: a shell that forbids it has every file compiled at each call."""


def call(arguments: tuple[str, ...], folder: Path) -> tuple[int, float, float]:
    """Return exit code, seconds by the clock and of the processor, children included, of one process."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, time.perf_counter() - start, usage.ru_utime + usage.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", help="Commands whose label holds this.")
    options = parser.parse_args()
    chosen = {label: each for label, each in COMMANDS.items() if (options.only or "") in label}
    times: dict[str, list[tuple[float, float]]] = {label: [] for label in chosen}
    peers: dict[str, list[tuple[float, float]]] = {label: [] for label in PEERS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assert call((*OURS, *TICKET), folder)[0] == 0
        # The first round fills caches and is not counted.
        for counted in (False, *[True] * options.rounds):
            for label, (_, expected, arguments) in chosen.items():
                code, *spent = call((*OURS, *arguments), folder)
                assert code == expected, f"{label}: exit code {code}"
                if counted:
                    times[label].append((spent[0], spent[1]))
            for label, code_to_run in PEERS.items():
                _, *spent = call(("-c", code_to_run), folder)
                if counted:
                    peers[label].append((spent[0], spent[1]))
    for label, spent_by in peers.items():
        clock, processor = (median(each[index] for each in spent_by) for index in (0, 1))
        print(f"{label:35} {clock:4.2f} s  {processor:4.2f} s")
    print(f"{'command':28}  limit   clock  processor")
    kept = True
    for label, (limit, _, _) in chosen.items():
        clock, processor = (median(each[index] for each in times[label]) for index in (0, 1))
        kept &= processor <= limit
        print(f"{label:28}  {limit:4.2f} s  {clock:4.2f} s  {processor:4.2f} s{'' if processor <= limit else '  over'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
