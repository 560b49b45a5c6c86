"""From a record, as its JSON says it, to one row: a column for each of its main figures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

Row = dict[str, Any]

# Columns that say what was asked for; all others say what came of it.
SETTINGS = (
    *("model", "dataset", "split", "n", "method", "criterion", "blocks", "removed", "sparsity", "rewind", "seed"),
    "training_epochs",
)

_MODEL = ("parameters", "macs", "filters", "sha256", "path")
_CLEAN = ("accuracy", "nll", "ece", "brier")
_TRAINING = ("epochs", "seconds", "images_per_second", "energy_kwh", "co2_kg")
_CORRUPTIONS = ("mean_accuracy", "mean_error", "mean_error_19")
_DETECTION = ("auroc", "aupr_in", "aupr_out", "fpr95_ood_positive", "fpr95_id_positive")


def flatten(record: Mapping[str, Any]) -> Row:
    """Return the row of a record.

    Columns are named ``accuracy``, ``pgd_linf_8_255`` (robust accuracy; None where the attack was not valid),
    ``fog`` (mean accuracy over severities), ``noise_knn_auroc``, ``shift_NAME_accuracy`` and so on: letters, digits and
    underscores, so that they need no quotes in a condition.
    """
    model, plan = record["model"], record["model"]["plan"]
    row: Row = {
        "model": model["architecture"],
        "dataset": record["dataset"],
        "split": record["split"],
        "n": record["n"],
        "method": {"none": "dense"}.get(plan["method"], plan["method"]),
        "criterion": plan["criterion"],
        "blocks": len(model["removed"]) or None,
        "removed": ", ".join(model["removed"]),
        "sparsity": plan.get("sparsity"),
        "rewind": None if plan.get("rewound_to") is None else str(plan["rewound_to"]),
        "seed": model["training"].get("seed", model["initial_seed"]),
        **{name: model[name] for name in _MODEL},
        **{name: record["clean"][name] for name in _CLEAN},
        **{f"training_{name}": model["training"].get(name) for name in _TRAINING},
        "evaluation_seconds": record["seconds"],
    }
    for name, value in (*_attacks(record), *_corruptions(record), *_shift(record), *_ood(record)):
        row[_column(name)] = value
    return row


def _attacks(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for entry in record["attacks"]:
        name = f"{entry['name']}_{entry['norm']}_{_budget(entry['epsilon'])}"
        yield name, entry["robust_accuracy"] if entry["valid"] else None


def _budget(epsilon: float) -> str:
    """Return 8_255 for eight of 255, and other budgets as decimals."""
    levels = epsilon * 255
    return f"{round(levels)}_255" if epsilon < 1 and abs(levels - round(levels)) < 1e-6 else f"{epsilon:g}"


def _corruptions(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    found = record.get("corruptions")
    if found:
        for name in _CORRUPTIONS:
            yield f"corruption_{name}", found.get(name)
        if found.get("dense"):
            yield "corruption_mce_vs_dense", found["dense"]["mce_vs_dense"]
        for name, row in found["table"].items():
            idle = found.get("unchanged", {}).get(name, ())
            counted = [value for severity, value in enumerate(row, start=1) if severity not in idle]
            yield name, sum(counted) / len(counted) if counted else None


def _shift(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for entry in record.get("shift", ()):
        yield f"shift_{entry['name']}_accuracy", entry["accuracy"]
        yield f"shift_{entry['name']}_gap", entry["gap"]


def _ood(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for entry in record.get("ood", ()):
        for detector, figures in entry["detectors"].items():
            for name in _DETECTION:
                yield f"{entry['dataset']}_{detector}_{name}", figures.get(name)


@cache  # names are few, records many
def _column(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").lower()
