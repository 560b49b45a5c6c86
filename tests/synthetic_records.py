"""Records of networks that do not exist: right and wrong answers drawn with known probabilities, in the real schema."""

from __future__ import annotations

from typing import Any

import numpy as np

from robustprune.corruptions import HEADLINE
from robustprune.corruptions.corruption_result import CorruptionResult, ShiftEntry
from robustprune.metrics import confidence_bins, wilson_interval
from robustprune.ood.ood_result import DetectorEntry, OodEntry, OodSummary, SelectiveEntry
from robustprune.records import AttackEntry, CheckResult, CleanResult, ModelSummary, Record

CLASSES = 10


def make_record(
    *,
    kind: str = "dense",
    seed: int | None = 0,
    n: int = 500,
    accuracy: float = 0.9,
    attacks: tuple[tuple[str, float], ...] = (("pgd", 8 / 255),),
    corruptions: tuple[str, ...] = (),
    detectors: tuple[str, ...] = (),
    ood_sets: tuple[str, ...] = ("svhn",),
    shift: tuple[str, ...] = (),
    macs: int = 1000,
) -> Record:
    """Return the record of a network; equal arguments give equal records, and images are those of all others."""
    images = np.random.default_rng(99)
    label = images.integers(0, CLASSES, n)
    ease = images.random(n)  # of each image, the same for all networks
    random = np.random.default_rng([seed if seed is not None else 1000, *kind.encode()])

    def answers(share: float, truth: Any = label, given: Any = ease) -> Any:
        """Return predictions, right where an image is easy enough; a part of that is the network's own."""
        right = 0.7 * given + 0.3 * random.random(len(truth)) < share
        return np.where(right, truth, (truth + 1) % CLASSES).astype(np.int32)

    prediction = answers(accuracy)
    right = prediction == label
    confidence = np.where(right, random.beta(8, 1, n), random.beta(3, 2, n)).astype(np.float32)
    nll = np.where(right, -np.log(confidence), 1 - np.log1p(-0.9 * confidence)).astype(np.float32)
    brier = ((1 - np.where(right, confidence, 0.5 * (1 - confidence))) ** 2).astype(np.float32)
    gaps = np.bincount(confidence_bins(confidence.astype(np.float64)), weights=right - confidence, minlength=15)
    samples: dict[str, Any] = {
        **{"index": np.arange(n), "label": label, "clean_prediction": prediction},
        **{"confidence": confidence, "nll": nll, "brier": brier},
    }
    entries = []
    for i, (name, epsilon) in enumerate(attacks):
        attacked = np.where(right, answers(accuracy - 6 * epsilon), prediction)
        broken = attacked != label
        samples |= {f"attack{i}_prediction": attacked, f"attack{i}_broken": broken}
        samples |= {f"attack{i}_norm": (broken * epsilon).astype(np.float32)}
        samples |= {f"attack{i}_{what}": np.zeros(n, np.int32) for what in ("step", "queries", "part")}
        entries.append(attack_entry(name, epsilon, broken))
    found_corruptions = None
    if corruptions:
        table: dict[str, list[float]] = {name: [] for name in corruptions}
        for name in corruptions:
            for severity in range(1, 6):
                samples[f"corruption_{name}_{severity}"] = answers(accuracy - 0.05 * severity)
                table[name].append(float((samples[f"corruption_{name}_{severity}"] == label).mean()))
        found_corruptions = corruption_result(table, n)
    shifts = []
    for i, name in enumerate(shift):
        truth = images.integers(0, CLASSES, n // 2)
        samples |= {f"shift{i}_label": truth, f"shift{i}_prediction": answers(accuracy - 0.1, truth, ease[: n // 2])}
        hits = samples[f"shift{i}_prediction"] == truth
        interval = wilson_interval(int(hits.sum()), len(hits))
        found = float(hits.mean())
        shifts.append(
            ShiftEntry(name=name, n=len(hits), accuracy=found, interval=interval, gap=float(right.mean()) - found)
        )
    ood, summary = [], None
    if detectors:
        samples["ood_in_index"] = np.arange(n)
        samples |= {f"ood_in_{name}": ease + random.normal(size=n) for name in detectors}
        for i, dataset in enumerate(ood_sets):
            samples[f"ood{i}_index"] = np.arange(n)
            samples |= {f"ood{i}_{name}": ease + 1 + random.normal(size=n) for name in detectors}
            figures = {
                name: DetectorEntry(auroc=_auroc(samples[f"ood_in_{name}"], samples[f"ood{i}_{name}"]))
                for name in detectors
            }
            ood.append(OodEntry(dataset=dataset, group="far", n_in=n, n_out=n, conversions={}, detectors=figures))
        summary = OodSummary(
            groups=[], missing={}, selective={name: SelectiveEntry(aurc=0.1) for name in detectors}, protocol={}
        )
    return Record(
        model=ModelSummary(
            path=f"{kind}-{seed}.pt",
            architecture="resnet32",
            sha256=f"{kind}-{seed}",
            parameters=macs // 10,
            macs=macs,
            filters=100,
            removed=[],
            memory_bytes={
                "batch_size": 128,
                "parameters": 4 * macs,
                "buffers": 0,
                "activations": macs,
                "inference_activations": 0,
            },
            plan={},
            initial_seed=seed,
            training={"seed": seed, "seconds": 100 + float(random.random()), "threads": 1, "energy_kwh": 0.01},
            earlier_training=[],
        ),
        dataset="cifar10",
        split="test",
        n=n,
        data={},
        samples_sha256="0" * 64,
        clean=CleanResult(
            accuracy=float(right.mean()),
            interval=wilson_interval(int(right.sum()), n),
            nll=float(nll.mean(dtype=np.float64)),
            ece=float(np.abs(gaps).sum() / n),
            brier=float(brier.mean(dtype=np.float64)),
        ),
        attacks=entries,
        corruptions=found_corruptions,
        shift=shifts,
        ood=ood,
        ood_summary=summary,
        seed=0,
        environment={},
        seconds=1.0,
        samples=samples,
    )


def attack_entry(name: str, epsilon: float, broken: Any) -> AttackEntry:
    """Return the entry of an attack that broke samples (n,) booleans."""
    survived = int((~broken).sum())
    return AttackEntry(
        name=name,
        norm="linf",
        epsilon=epsilon,
        steps=10,
        restarts=1,
        options={"steps": 10, "restarts": 1, "seed": 0, "batch_size": 256},
        robust_accuracy=survived / len(broken),
        interval=wilson_interval(survived, len(broken)),
        valid=True,
        checks=[CheckResult(name="containment", verdict="PASS", detail="")],
        gradient_evaluations=1,
        forward_evaluations=1,
        seconds=0.1,
        parts=["clean"],
    )


def corruption_result(table: dict[str, list[float]], n: int) -> CorruptionResult:
    """Return the result of accuracies by corruption and severity."""
    mean = float(np.mean(list(table.values())))
    whole = mean if set(HEADLINE) <= table.keys() else None
    return CorruptionResult(
        source="cifar10-c-like",
        published={},
        missing=[],
        n=n,
        scale=1.0,
        mean_accuracy=whole,
        mean_error=None if whole is None else 1 - whole,
        mean_error_19=None,
        mean_error_evaluated=1 - mean,
        relative_mean_error=0.0,
        **{figure: table for figure in ("table", "nll", "ece", "brier", "consistency")},
        by_severity=[],
        seconds=1.0,
    )


def _auroc(inside: Any, outside: Any) -> float:
    ranks = np.searchsorted(np.sort(inside), outside, "left")  # there are no ties
    return float(ranks.mean() / len(inside))
