"""Renews what docs/RESULTS.md prints and shows of the tables that come with the package.

python docs/make_results.py
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import robustprune as rp
from robustprune.report.figures.drawing import save_figures
from robustprune.tables.budget import best_tickets
from robustprune.tables.table_figures import draw_differences, draw_profiles
from robustprune.tables.ticket_table import shipped_tables

PAGE = Path(__file__).with_name("RESULTS.md")
FIGURES = Path(__file__).with_name("results")
SESSION = re.compile(r"(?<=```console\n)\$ robustprune (table [^\n]*)\n.*?(?=```)", re.DOTALL)
METRICS = {
    "resnet20/digits": ("accuracy", "pgd_linf_16_255", "corruption_mean_accuracy"),
    "resnet32/digits": ("accuracy", "pgd_linf_16_255", "corruption_mean_accuracy"),
    "resnet20/fashion-mnist": ("accuracy", "pgd_linf_2_255", "corruption_mean_accuracy"),
}
# Of 63 profiles, each with a few seeds, differences are noise.
GROUPING: dict[str, Literal["profile", "size"]] = {
    "resnet20/digits": "profile",
    "resnet32/digits": "size",
    "resnet20/fashion-mnist": "profile",
}


def printed(command: str) -> str:
    """Return what a command of robustprune prints on a terminal of 110 columns."""
    done = subprocess.run(
        [sys.executable, "-m", "robustprune", *shlex.split(command)],
        env={**os.environ, "COLUMNS": "110"},
        capture_output=True,
        text=True,
        check=True,
    )
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


def renewed(text: str) -> str:
    """Return a page with the output of its sessions as they are now."""
    return SESSION.sub(lambda found: f"$ robustprune {found[1]}\n{printed(found[1])}", text)


def draw(folder: Path) -> None:
    """Write the figures as SVG."""
    for name in shipped_tables():
        table, metrics, stem = rp.load_table(name), METRICS[name], name.replace("/", "-")
        drawings = {
            f"{stem}-profiles": draw_profiles(name, best_tickets(table, metrics), metrics),
            f"{stem}-against-dense": draw_differences(name, rp.compare_tickets(table, metrics, by=GROUPING[name])),
        }
        for file, drawing in drawings.items():
            with TemporaryDirectory() as made:
                save_figures([drawing], made)
                shutil.copy(Path(made, f"{drawing.name}.svg"), folder / f"{file}.svg")


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
    draw(FIGURES)
