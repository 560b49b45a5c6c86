"""`robustprune demo`: the whole path in two minutes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import Setup, setup_options
from robustprune.cli.paths import Target
from robustprune.cli.sweep import announcing
from robustprune.errors import TicketError
from robustprune.runtime.file_kinds import DEMO_MARK, OUTCOMES, PAGE, RECORD, TICKET, FileKind

if TYPE_CHECKING:
    from robustprune.comparison import Comparison, ComparisonRow
    from robustprune.records import Record
    from robustprune.runtime.work import Progress
    from robustprune.sweep.settings import RunSettings

MODEL = "resnet32"
BLOCKS = 4
DATA: dict[str, Any] = {"name": "digits"}
EVALUATION: dict[str, Any] = {
    "attacks": {"names": ["fgsm", "pgd"], "epsilons": ["4/255", "8/255", "16/255", "0.1"]},
    "corruptions": "all",
    "ood": {"sets": ["photo-patches", "noise"], "detectors": ["msp", "energy", "knn"]},
    "latency": True,
}
NAMES = {
    "dense": "dense",
    "layer": "layers by GraSP",
    "filter": "filters by GraSP",
    "random": "layers at random",
}
"""Name of a network's files → what it is called for readers."""
_SHOWN = ("accuracy", "robustness", "corruptions", "ood", "cost")


@dataclass(frozen=True)
class DemoResult:
    """What the demo found: the folder, the record of each network by its name, and how they compare."""

    folder: Path
    records: dict[str, Record]
    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return {
            "networks": [
                {"name": name, "ticket": record.model.path, "record": record.model_dump(mode="json")}
                for name, record in self.records.items()
            ],
            "comparison": self.comparison.to_dict(),
            "report": str(self.folder / "report.html"),
        }


def demo_files(folder: Path, _options: Mapping[str, Any] | None = None) -> list[tuple[Path, FileKind]]:
    """Return what a demo writes to a folder, and what each file is."""
    from robustprune.records import samples_path

    files: list[tuple[Path, FileKind]] = [(folder / "report.html", PAGE)]
    for name in NAMES:
        record = folder / f"{name}.json"
        files += [(folder / f"{name}.pt", TICKET), (record, RECORD), (samples_path(record), OUTCOMES)]
    return files


@commands.command(examples=["--out demo"])
@click.option(
    "--out",
    type=Target(beside=demo_files, marks=(DEMO_MARK,), file_okay=False),
    default="demo",
    show_default=True,
    help="Folder of results.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=20, help="Passes over the training images.")
@setup_options
def demo(out: str, epochs: int, setup: Setup, as_json: bool) -> None:
    """Prune, train, evaluate and compare four small networks on digits, and write a report.

    The networks: a dense ResNet32; tickets without the four blocks that GraSP scores lowest, without as many filters as
    those blocks have, and without four random blocks. Each is evaluated under attacks and corruptions and for
    out-of-distribution detection.
    """
    # Images of 8×8 pixels gain nothing from a second thread, and on a busy machine two would wait for each other.
    device = replace(setup, threads=setup.threads or 1).begin()
    with terminal.progress_bar() as bar:
        result = run_demo(
            Path(out), epochs=epochs, seed=setup.seed, device=str(device), progress=announcing(bar), say=terminal.say
        )
    if as_json:
        terminal.print_json(result.to_dict())
        return
    _summary(result)


def run_demo(
    folder: Path, *, epochs: int, seed: int, device: str, progress: Progress, say: Callable[[str], None]
) -> DemoResult:
    """Train and evaluate four ResNet32 on digits; write tickets, records and a report to a folder.

    All start from the same initial weights; the tickets lose, before any training, the four blocks that GraSP scores
    lowest, as many filters as those have, and four random blocks. The folder is that of a sweep, too: a
    second call trains and evaluates nothing. Files of an earlier demo are replaced.
    """
    from robustprune.data import load_data
    from robustprune.report import write_report
    from robustprune.runtime.files import write_atomically
    from robustprune.sweep import run_here

    try:
        write_atomically(folder / DEMO_MARK, b"")
    except OSError as error:
        raise TicketError(f"the demo cannot be written to {folder}: {error.strerror}") from error
    found = run_here("demo", _runs(epochs, seed, device), load_data(**DATA, seed=seed), folder, progress)
    records = {}
    for name, each in zip(NAMES, found, strict=True):
        ticket = folder / f"{name}.pt"
        write_atomically(ticket, each.ticket.read_bytes(), TICKET)
        record = records[name] = each.read()
        record.model.path = str(ticket)
        record.save(folder / f"{name}.json")
        filters = sum(map(len, record.model.plan.get("removed_filters", {}).values()))
        if filters:
            say(f"{name}: removed {filters} filters, as many as layer (MACs are not matched)")
        elif record.model.removed:
            say(f"{name}: removed {', '.join(sorted(record.model.removed))}")
    say("comparing, and drawing the report …")
    named = {NAMES[name]: [record] for name, record in records.items()}
    (comparison,) = write_report(named, folder / "report.html", progress=progress).values()
    return DemoResult(folder, records, comparison)


def _runs(epochs: int, seed: int, device: str) -> list[RunSettings]:
    import torch

    from robustprune.sweep.settings import RunSettings
    from robustprune.tickets.requests import Pruning

    asked = {
        "dense": Pruning("dense"),
        "layer": Pruning("layer", criterion="grasp", blocks=BLOCKS),
        "filter": Pruning("filter", criterion="grasp", blocks=BLOCKS),
        "random": Pruning("layer", criterion="random", blocks=BLOCKS),
    }
    shared: dict[str, Any] = {"model": MODEL, "recipe": {"name": "quick", "epochs": epochs}, "device": device}
    shared |= {"data": {**DATA, "seed": seed}, "evaluate": {**EVALUATION, "seed": seed}, "seed": seed}
    return [RunSettings(**shared, pruning=asked[name], threads=torch.get_num_threads()) for name in NAMES]


def _heading(row: ComparisonRow) -> str:
    """Return a short heading, without the detector, of which there is one."""
    name, _, rest = row.label.partition(", ")
    return f">AUROC {rest}" if row.group == "ood" else f">{name}"


def _summary(result: DemoResult) -> None:
    """Draw the main metrics of each network, and what the comparison says of them."""
    from robustprune.comparison.main_metrics import main_metrics
    from robustprune.report.cells import value_text, verdict_badge

    comparison = result.comparison
    columns = [row for row in main_metrics(comparison.rows) if row.group in _SHOWN]
    by_place = {(row.candidate, row.metric): row for row in comparison.rows}
    rows = [["dense", *(value_text(column.reference, column.unit) for column in columns)]]
    for name in comparison.candidates:
        found = [by_place[name, column.metric] for column in columns]
        rows.append([name, *(f"{value_text(row.value, row.unit)}\n{verdict_badge(row).word}" for row in found)])
    terminal.table(
        f"ResNet32 on digits, {result.records['dense'].n} test images: {', '.join(NAMES.values())}",
        ["network", *map(_heading, columns)],
        rows,
        "One seed on a few hundred small images: this shows that everything works, not what layer pruning does.\n"
        f'Filters are matched to "{NAMES["layer"]}" in number, not in MACs.\n'
        f"Verdicts by paired intervals; tolerances: {comparison.tolerance_text}.\n"
        f"Tickets and records are in {result.folder}/\nOpen the report: {result.folder / 'report.html'}",
    )
