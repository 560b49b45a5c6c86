"""The whole path on a small data set: dense, pruned by GraSP, pruned at random; trained, attacked, compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from robustprune.data import ImageData, load_data
from robustprune.evaluation import evaluate
from robustprune.models import build_model
from robustprune.prune import prune_layers
from robustprune.pruning import score_blocks
from robustprune.records import Record
from robustprune.ticket import Ticket
from robustprune.training import train_to_file

MODEL = "resnet32"
BLOCKS = 4
EPSILONS = ("8/255", "0.1")


@dataclass(frozen=True)
class DemoResult:
    """One of the demo's networks: its name, the file of its ticket and its record."""

    name: str
    ticket: Path
    record: Record

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return {
            "name": self.name,
            "ticket": str(self.ticket),
            "record": self.record.model_dump(mode="json"),
        }


def run_demo(
    folder: Path,
    *,
    epochs: int = 20,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable[[str, float, float], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> list[DemoResult]:
    """Train and attack three ResNet32 on digits; write tickets and records to a folder.

    All three start from the same initial weights; the tickets are cut out of them before any training.

    Args:
        folder: Made if need be; files of an earlier demo are replaced.
        epochs: Of the recipe ``quick``, for each network.
        seed: Of weights, scores, training and attacks.
        device: Where to compute.
        progress: Called with (what, done, total).
        say: Called with a line about each step.
    """
    tell = say or (lambda _line: None)
    data = load_data("digits", seed=seed)
    results = []
    for name, ticket in _candidates(data, seed):
        removed = ", ".join(ticket.plan.removed) or "nothing"
        tell(f"{name}: removed {removed}; training {epochs} epochs …")
        path = folder / f"{name}.pt"
        path.with_name(f"{path.name}.checkpoint").unlink(missing_ok=True)
        train_to_file(
            ticket,
            data,
            path,
            epochs=epochs,
            seed=seed,
            device=device,
            on_step=_steps(progress, f"training {name}"),
        )
        tell(f"{name}: attacking …")
        ticket.network.to(device)
        record = evaluate(
            ticket,
            data,
            attacks=["fgsm", "pgd"],
            epsilons=EPSILONS,
            seed=seed,
            path=str(path),
            progress=progress,
        )
        record.save(folder / f"{name}.json")
        results.append(DemoResult(name, path, record))
    return results


def _candidates(data: ImageData, seed: int) -> list[tuple[str, Ticket]]:
    dense = Ticket.from_model(build_model(MODEL, data, seed=seed), data)
    pruned = [
        prune_layers(dense, score_blocks(dense.network, data, criterion, seed=seed), blocks=BLOCKS)
        for criterion in ("grasp", "random")
    ]
    return [("dense", dense), ("grasp", pruned[0]), ("random", pruned[1])]


def _steps(progress: Callable[[str, float, float], None] | None, label: str) -> Callable[[Any], None] | None:
    if progress is None:
        return None
    return lambda at: progress(label, at.epoch * at.steps + at.step, at.epochs * at.steps)
