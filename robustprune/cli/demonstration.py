"""The whole path on a small data set: find tickets, train, attack, corrupt, detect other images, compare, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from robustprune.attacks.requests import Attacks
from robustprune.comparison import Comparison
from robustprune.data import ImageData, load_data
from robustprune.errors import TicketError
from robustprune.evaluation import evaluate_models
from robustprune.models import build_model
from robustprune.ood.requests import OOD
from robustprune.pruning import first_convolutions, score_blocks, score_filters
from robustprune.records import Record, samples_path
from robustprune.report import write_report
from robustprune.runtime.files import write_atomically
from robustprune.runtime.kinds import CHECKPOINT, DEMO_MARK, OUTCOMES, PAGE, RECORD, TICKET, Kind
from robustprune.runtime.work import Progress, Work
from robustprune.tickets import prune_filters, prune_layers
from robustprune.tickets.ticket import Ticket
from robustprune.training import train_to_file

MODEL = "resnet32"
BLOCKS = 4
EPSILONS = ("4/255", "8/255", "16/255", "0.1")
SETS = ("photo-patches", "noise")
DETECTORS = ("msp", "energy", "knn")
NAMES = {
    "dense": "dense",
    "layer": "layers by GraSP",
    "filter": "filters by GraSP",
    "random": "layers at random",
}
"""Name of a network's files → what it is called for readers."""


@dataclass(frozen=True)
class DemoNetwork:
    """One of the demo's networks: its name, the file of its ticket and its record."""

    name: str
    ticket: Path
    record: Record


@dataclass(frozen=True)
class DemoResult:
    """What the demo found: its networks, how they compare, and where the report is."""

    networks: list[DemoNetwork]
    comparison: Comparison
    report: Path

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return {
            "networks": [
                {"name": each.name, "ticket": str(each.ticket), "record": each.record.model_dump(mode="json")}
                for each in self.networks
            ],
            "comparison": self.comparison.to_dict(),
            "report": str(self.report),
        }


def run_demo(
    folder: Path,
    *,
    epochs: int = 20,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> DemoResult:
    """Train and evaluate four ResNet32 on digits; write tickets, records and a report to a folder.

    All start from the same initial weights; the tickets are cut out of them before any training: four layers that
    GraSP ranks last, as many filters as those have, and four layers at random.

    Args:
        folder: Made if need be; files of an earlier demo are replaced, so nothing else should be in it.
        epochs: Of the recipe ``quick``, for each network.
        seed: Of weights, scores, training and attacks.
        device: Where to compute.
        progress: Called with (what, done, total).
        say: Called with a line about each step.

    Raises:
        TicketError: Nothing can be written to the folder.
    """
    tell = say or (lambda _line: None)
    try:
        write_atomically(folder / DEMO_MARK, b"")
    except OSError as error:
        raise TicketError(f"the demo cannot be written to {folder}: {error.strerror}") from error
    data = load_data("digits", seed=seed)
    tickets = _tickets(data, seed)
    paths = {name: folder / f"{name}.pt" for name in tickets}
    for name, ticket in tickets.items():
        tell(f"{name}: removed {_removed(ticket)}; training {epochs} epochs …")
        paths[name].with_name(f"{paths[name].name}.checkpoint").unlink(missing_ok=True)
        work = Work(progress=progress)
        train_to_file(ticket, data, paths[name], epochs=epochs, seed=seed, device=device, work=work)
        ticket.network.to(device)
        ticket.path = str(paths[name])
    tell("attacking the four, corrupting their images and showing them out-of-distribution ones …")
    records = evaluate_models(
        tickets,
        data,
        dense="dense",
        work=Work(progress=progress),
        attacks=Attacks(["fgsm", "pgd"], epsilons=EPSILONS),
        corruptions="all",
        ood=OOD(SETS, detectors=DETECTORS),
        latency=True,
        seed=seed,
    )
    for name, record in records.items():
        record.save(folder / f"{name}.json")
    tell("comparing, and drawing the report …")
    named = {NAMES[name]: [record] for name, record in records.items()}
    report = folder / "report.html"
    (comparison,) = write_report(named, report, progress=progress).values()
    networks = [DemoNetwork(name, paths[name], record) for name, record in records.items()]
    return DemoResult(networks, comparison, report)


def demo_files(folder: Path) -> list[tuple[Path, Kind]]:
    """Return what a demo writes to a folder, and what each file is."""
    files: list[tuple[Path, Kind]] = [(folder / "report.html", PAGE)]
    for name in NAMES:
        record = folder / f"{name}.json"
        files += [(folder / f"{name}.pt", TICKET), (folder / f"{name}.pt.checkpoint", CHECKPOINT)]
        files += [(record, RECORD), (samples_path(record), OUTCOMES)]
    return files


def _tickets(data: ImageData, seed: int) -> Mapping[str, Ticket]:
    dense = Ticket.from_model(build_model(MODEL, data, seed=seed), data)
    layer, at_random = (
        prune_layers(dense, score_blocks(dense.network, data, criterion, seed=seed), blocks=BLOCKS)
        for criterion in ("grasp", "random")
    )
    convolutions = list(first_convolutions(dense.network).values())
    scores = score_filters(dense.network, convolutions, data, "grasp", seed=seed)
    return {"dense": dense, "layer": layer, "filter": prune_filters(dense, scores, match=layer), "random": at_random}


def _removed(ticket: Ticket) -> str:
    filters = sum(map(len, ticket.plan.removed_filters.values()))
    return f"{filters} filters" if filters else ", ".join(ticket.plan.removed) or "nothing"
