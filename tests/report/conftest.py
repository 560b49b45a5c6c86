"""Records that report's tests share: real small ones, and full ones of networks that do not exist."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import HOSTILE
from synthetic_records import make_record

from robustprune.attacks.requests import Attacks
from robustprune.corruptions import HEADLINE
from robustprune.data import ImageData
from robustprune.evaluation import evaluate_models
from robustprune.models import build_model
from robustprune.ood.requests import OOD
from robustprune.pruning import score_blocks
from robustprune.records import BlockSummary, CheckResult, Record
from robustprune.report import write_report
from robustprune.tickets import prune_layers
from robustprune.tickets.ticket import Ticket
from robustprune.training import train

Groups = dict[str, list[Record]]

ATTACKS = (("fgsm", 8 / 255), ("pgd", 4 / 255), ("pgd", 8 / 255))


def full_record(kind: str, seed: int, *, accuracy: float, macs: int) -> Record:
    """Return a record with everything in it."""
    record = make_record(
        kind=kind,
        seed=seed,
        n=200,
        accuracy=accuracy,
        macs=macs,
        attacks=ATTACKS,
        corruptions=HEADLINE,
        detectors=("energy", "knn"),
        shift=("cifar10.2",),
    )
    random = np.random.default_rng(seed)
    samples: dict[str, Any] = record.samples or {}
    broken = np.flatnonzero(samples["attack2_broken"] & (samples["clean_prediction"] == samples["label"]))[:3]
    samples |= {
        "gallery2_index": broken,
        "gallery2_clean": random.integers(0, 256, (3, 1, 8, 8), dtype=np.uint8),
        "gallery2_perturbation": random.uniform(-0.03, 0.03, (3, 1, 8, 8)).astype(np.float16),
    }
    record.attacks[2].gallery = len(broken)
    record.classes = [f"class {number}" for number in range(10)]
    model = record.model
    model.history = [
        {"epoch": epoch, "train_loss": 2 / epoch, "validation_accuracy": accuracy - 0.2 / epoch, "learning_rate": 0.1}
        for epoch in range(1, 6)
    ]
    model.training |= {"co2_kg": 0.004, "energy_method": "codecarbon"}
    model.latency_ms = {"median": macs / 1000, "iqr": 0.1}
    if kind != "dense":
        names = [f"layer{stage}.{place}" for stage in (1, 2, 3) for place in range(3)]
        model.removed = names[1:2]
        model.plan = {"method": "layer", "criterion": "grasp", "removed": {name: "relu" for name in model.removed}}
        model.blocks = [
            BlockSummary(
                name=name,
                stage=i // 3,
                eligible=i % 3 > 0,
                removed=name in model.removed,
                score=float(i) if i else None,
            )
            for i, name in enumerate(names)
        ]
    return record


@pytest.fixture(scope="session")
def groups() -> Groups:
    """Return three seeds of a dense network and of two candidates, one better and cheaper than the other."""
    return {
        "dense": [full_record("dense", seed, accuracy=0.9, macs=1000) for seed in range(3)],
        "good": [full_record("good", seed, accuracy=0.92, macs=700) for seed in range(3)],
        "bad": [full_record("bad", seed, accuracy=0.7, macs=800) for seed in range(3)],
    }


@pytest.fixture(scope="session")
def records(few_digits: ImageData) -> dict[str, Record]:
    """Records of a dense network and of two tickets, trained for an epoch."""
    dense = Ticket.from_model(build_model("resnet20", few_digits, seed=0, width=4), few_digits)
    tickets = {"dense": dense}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of criteria that cannot tell tiny blocks apart
        for criterion in ("l1", "random"):
            tickets[criterion] = prune_layers(dense, score_blocks(dense.network, few_digits, criterion), blocks=2)
    for ticket in tickets.values():
        train(ticket, few_digits, epochs=2, country=None)
    for name, ticket in tickets.items():
        ticket.path = f"{name}.pt"
    return evaluate_models(
        tickets,
        few_digits,
        limit=60,
        attacks=Attacks(["fgsm", "pgd"], epsilons=["8/255", "0.1"], steps=3),
        corruptions=["fog", "gaussian_noise"],
        ood=OOD(["photo-patches"], detectors=["energy", "msp"]),
    )


@pytest.fixture(scope="session")
def hostile_groups(records: dict[str, Record]) -> dict[str, list[Record]]:
    """These by name, one attack of one of them found to be invalid."""
    found = {name: record.model_copy(deep=True) for name, record in records.items()}
    weak = found["random"].attacks[-1]
    weak.valid = False
    weak.checks.append(CheckResult(name="large budget", verdict="FAIL", detail="12 % survive the budget of 1"))
    return {"dense": [found["dense"]], "l1, 2 layers": [found["l1"]], HOSTILE: [found["random"]]}


@pytest.fixture(scope="session")
def report(hostile_groups: dict[str, list[Record]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of the report of these."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    write_report(hostile_groups, out)
    return out
