"""What a lottery found: each ticket against the dense network of its seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustprune.metrics import mean_and_half_width, mean_interval
from robustprune.records import Record
from robustprune.tickets.requests import Pruning
from robustprune.tickets.rewinding import RewindPoint


@dataclass(frozen=True)
class LotteryRow:
    """A ticket over all seeds, against the dense networks of the same seeds, on the same test images.

    Attributes:
        ticket: How it was found.
        point: Where its weights came from.
        dense: Seed → record of the dense network.
        records: Seed → record of the ticket.
    """

    ticket: Pruning
    point: RewindPoint
    dense: Mapping[int, Record]
    records: Mapping[int, Record]

    @property
    def differences(self) -> dict[int, float]:
        """Seed → test accuracy minus that of the dense network, in percentage points."""
        return {
            seed: 100 * (own.clean.accuracy - self.dense[seed].clean.accuracy) for seed, own in self.records.items()
        }

    @property
    def mean(self) -> float:
        """Mean difference over the seeds, in percentage points."""
        return sum(self.differences.values()) / len(self.differences)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's 95 % interval of the mean difference; None for one seed."""
        return mean_interval(list(self.differences.values()))

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain values."""
        differences = self.differences
        return {
            "criterion": self.ticket.criterion,
            "options": dict(self.ticket.options),
            "eligibility": self.ticket.eligibility,
            "method": self.ticket.method,
            "blocks": self.ticket.blocks,
            "budget": self.ticket.budget,
            "rounds": len(self.ticket.schedule) or 1,
            "fine_tune_epochs": self.ticket.fine_tune_epochs,
            "at_init": self.ticket.at_init,
            "rewound_to": self.point.origin,
            "difference": self.mean,
            "interval": self.interval,
            "seeds": {
                seed: {
                    "difference": differences[seed],
                    "accuracy": record.clean.accuracy,
                    "removed": record.model.removed,
                    "match": record.model.plan.get("match"),
                    "parameters": record.model.parameters,
                    "macs": record.model.macs,
                    "filters": record.model.filters,
                    "training_seconds": record.model.training["seconds"],
                    "energy_kwh": record.model.training["energy_kwh"],
                    "sha256": record.model.sha256,
                    "path": record.model.path,
                }
                for seed, record in self.records.items()
            },
        }


@dataclass(frozen=True)
class LotteryResults:
    """All tickets of a lottery.

    Attributes:
        model: Name of the network.
        dataset: Name of the image set.
        epochs: Of the dense training.
        dense: Seed → record of the dense network.
        rows: One per ticket.
    """

    model: str
    dataset: str
    epochs: int
    dense: Mapping[int, Record]
    rows: tuple[LotteryRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the results as plain values."""
        accuracies = {seed: record.clean.accuracy for seed, record in self.dense.items()}
        return {
            "model": self.model,
            "dataset": self.dataset,
            "epochs": self.epochs,
            "n": next(iter(self.dense.values())).n,
            "dense": {"accuracy": accuracies, "macs": next(iter(self.dense.values())).model.macs},
            "tickets": [row.to_dict() for row in self.rows],
        }

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return headings and rows of differences to the dense network in percentage points.

        One row per criterion, method and number of blocks, one column per rewinding point, as in the paper's
        Table 1; where there is one such point, one column per number of blocks, as in Tables 2 and 3.
        """
        by_point = len({row.point for row in self.rows}) > 1
        columns: dict[str, None] = {}
        lines: dict[tuple[str, ...], dict[str, str]] = {}
        for row in self.rows:
            blocks, way = row.ticket.blocks, row.ticket.way
            size = row.ticket.budget or f"{blocks} block{'s' * (blocks != 1)}"
            key = (
                f"{row.ticket.criterion} {way}".rstrip(),
                row.ticket.method,
                *([size.partition(" block")[0]] if by_point else []),
            )
            column = row.point.label if by_point else size
            columns[column] = None
            lines.setdefault(key, {})[column] = mean_and_half_width(list(row.differences.values()))
        body = [[*key, *(cells.get(column, "") for column in columns)] for key, cells in lines.items()]
        return ["criterion", "method", *([">blocks"] if by_point else []), *(f">{each}" for each in columns)], body
