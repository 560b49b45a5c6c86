"""A sweep's folder, made by hand."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from robustprune.sweep import Store
from robustprune.sweep.graph import Stage, SweepPlan

RECORD: dict[str, Any] = {
    "schema": 1,
    "model": {
        "path": "a.pt", "architecture": "resnet20", "sha256": "ab", "parameters": 10, "macs": 20, "filters": 30,
        "removed": ["stage1.1", "stage2.1"], "initial_seed": 4,
        "plan": {"method": "layer", "criterion": "grasp", "rewound_to": 0},
        "training": {"epochs": 5, "seconds": 9.5}, "earlier_training": [],
    },
    "dataset": "digits", "split": "test", "n": 100,
    "clean": {"accuracy": 0.9, "nll": 0.4, "ece": 0.1, "brier": 0.2},
    "attacks": [
        {"name": "pgd", "norm": "linf", "epsilon": 8 / 255, "robust_accuracy": 0.5, "valid": True},
        {"name": "pgd", "norm": "l2", "epsilon": 0.5, "robust_accuracy": 0.6, "valid": False},
    ],
    "corruptions": {"mean_accuracy": 0.7, "mean_error": 0.3, "table": {"fog": [0.9, 0.8, 0.7, 0.6, 0.5]}},
    "shift": [{"name": "cifar10.2", "accuracy": 0.8, "gap": 0.1}],
    "ood": [{"dataset": "noise", "detectors": {"knn": {"auroc": 0.99, "fpr95_ood_positive": 0.02}}}],
    "seconds": 3.0,
}  # fmt: skip


def record(**clean: Any) -> dict[str, Any]:
    made = copy.deepcopy(RECORD)
    made["clean"] |= clean
    return made


def fill(folder: Path, count: int) -> None:
    """Make the folder of a sweep with so many runs."""
    plan, store = SweepPlan(), Store(folder)
    for number in range(count):
        criterion = ("grasp", "snip")[number % 2]
        address = plan.add(Stage("evaluate", {"number": number}, label=f"run {number}"))
        settings = {"criterion": criterion, "blocks": number % 5 + 1, "seed": number, "method": "layer"}
        plan.add_run(f"run {number}", {**settings, "criterion_options": {"batches": 1}, "train_epochs": 3}, address)
        home = store.stage(address)
        home.mkdir(parents=True)
        (home / "stage.json").write_text("{}")
        (home / "record.json").write_text(json.dumps(record(accuracy=number / count)))
    store.plan_file("mine").parent.mkdir()
    store.plan_file("mine").write_text(plan.to_json())


def fill_with_histories(folder: Path, count: int) -> None:
    """Make such a folder of runs that say how their training went."""
    fill(folder, count)
    for path in folder.rglob("record.json"):
        content = json.loads(path.read_text())
        content["model"]["history"] = [{"epoch": 1, "train_loss": 2.0}, {"epoch": 2, "train_loss": 1.5, "energy": None}]
        path.write_text(json.dumps(content))
