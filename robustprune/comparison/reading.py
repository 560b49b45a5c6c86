"""From a record to the outcomes of a network, metric by metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from robustprune.comparison.costs import cost_outcomes
from robustprune.comparison.outcomes import SHARE, Floats, Metric, Outcome, Outcomes
from robustprune.corruptions import HEADLINE, SEVERITIES
from robustprune.files import hash_arrays
from robustprune.metrics import confidence_bins
from robustprune.metrics.detection import bootstrap_counts
from robustprune.records import AttackEntry, Record, Samples

_NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
# Options of an attack that change how it computes and not what it finds, or that follow from others and the network.
_INCIDENTAL = ("seed", "batch_size", "frozen", "early_stop", "stages", "samples_together")


def read_outcomes(record: Record, *, resamples: int = 1000, seed: int = 0) -> Outcomes:
    """Return all outcomes of a record; arrays of its samples are reduced to what comparing takes.

    Args:
        record: With outcomes per sample, or without.
        resamples: How often samples are drawn for a metric that is no mean.
        seed: Of these draws.
    """
    samples = record.samples or {}
    return {
        metric: outcome
        for read in (_accuracy, _attacks, _corruptions, _shift, _detection)
        for metric, outcome in read(record, samples)
    } | {**dict(_calibration(record, samples, resamples, seed)), **cost_outcomes(record)}


Found = Iterator[tuple[Metric, Outcome]]


def _share(value: float, right: Floats | None, **facts: Any) -> Outcome:
    """Return the outcome of a share, in percent, of samples (n,) that are right."""
    return Outcome(100 * value, () if right is None else (right,), SHARE, **facts)


def _accuracy(record: Record, samples: Samples) -> Found:
    right = samples["clean_prediction"] == samples["label"] if samples else None
    yield Metric("accuracy", "accuracy", "accuracy"), _share(record.clean.accuracy, right, n_samples=record.n)


def _attacks(record: Record, samples: Samples) -> Found:
    for i, entry in enumerate(record.attacks):
        norm = _NORMS.get(entry.norm, entry.norm)
        metric = Metric(
            f"robust_accuracy[{entry.name} {norm} {entry.epsilon:.3g}]",
            f"{entry.name} {norm.replace('inf', '∞')} {_budget(entry)}",
            "robustness",
        )
        failed = [check.name for check in entry.checks if check.verdict == "FAIL"]
        settings = {"epsilon": entry.epsilon, "steps": entry.steps, "restarts": entry.restarts, **entry.options}
        yield (
            metric,
            _share(
                entry.robust_accuracy,
                samples[f"attack{i}_broken"] == 0 if samples else None,
                n_samples=record.n,
                settings=_essential(settings),
                seed=record.seed,
                problem=None if entry.valid else f"failed check: {', '.join(failed) or 'unknown'}",
            ),
        )


def _essential(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that decide what an attack is; a union has those of its members within its own."""
    return {
        name: _essential(value) if isinstance(value, Mapping) else value
        for name, value in options.items()
        if name not in _INCIDENTAL
    }


def _budget(entry: AttackEntry) -> str:
    """Return ε as a fraction of 255 where it is one, else as a number."""
    levels = 255 * entry.epsilon
    return f"{levels:.0f}/255" if abs(levels - round(levels)) < 1e-6 else f"{entry.epsilon:.3g}"


def _corruptions(record: Record, samples: Samples) -> Found:
    found = record.corruptions
    if found is None:
        return
    names = HEADLINE if set(HEADLINE) <= set(found.table) else tuple(sorted(found.table))
    rows = [found.table[name] for name in names]
    truth = samples.get("corruption_label", samples.get("label"))
    parts: tuple[Floats, ...] = ()
    if truth is not None:
        hits = np.zeros(len(truth), np.float32)
        for name in names:
            for severity in SEVERITIES:
                hits += samples[f"corruption_{name}_{severity}"] == truth
        parts = (hits / (len(names) * len(SEVERITIES)),)
    yield (
        Metric("corruption_accuracy", "corruptions, mean", "corruptions"),
        Outcome(
            100 * float(np.mean(rows)),
            parts,
            SHARE,
            n_samples=found.n,
            settings={
                # Its folder may be another on another machine.
                "source": Path(found.source).name,
                "corruptions": list(names),
                "scale": found.scale,
                "n": found.n,
                "images": _hash(samples, "corruption_label"),
            },
            # Published images are drawn by nobody here.
            seed=None if found.published else record.seed,
        ),
    )


def _shift(record: Record, samples: Samples) -> Found:
    for i, entry in enumerate(record.shift):
        right = samples[f"shift{i}_prediction"] == samples[f"shift{i}_label"] if samples else None
        settings = {"n": entry.n, "labels": _hash(samples, f"shift{i}_label")}
        metric = Metric(f"shift_accuracy[{entry.name}]", entry.name, "shift")
        yield metric, _share(entry.accuracy, right, n_samples=entry.n, settings=settings)


def _detection(record: Record, samples: Samples) -> Found:
    for i, entry in enumerate(record.ood):
        assert record.ood_summary is not None
        protocol = record.ood_summary.protocol
        settings = {
            "foreign images": entry.n_out,
            "conversions": entry.conversions,
            # Where no detector had to be fitted, there is nothing to say; others may have been asked for beside.
            "fitted on": protocol.get("fitted_on") or None,
            "tuned on": (protocol.get("tuned_on") or {}).get("dataset", "nothing"),
            "places": _hash(samples, "ood_in_index", f"ood{i}_index"),
        }
        for name, figures in entry.detectors.items():
            metric = Metric(f"auroc[{name} {entry.dataset}]", f"{name}, {entry.dataset}", "ood")
            n_samples = entry.n_in + entry.n_out
            if figures.auroc is None:
                yield metric, Outcome(0.0, settings=settings, problem=figures.reason or "there is no figure")
                continue
            parts = _placements(samples[f"ood_in_{name}"], samples[f"ood{i}_{name}"]) if samples else ()
            yield (
                metric,
                Outcome(100 * figures.auroc, parts, SHARE, n_samples=n_samples, settings=settings, seed=record.seed),
            )


def _placements(inside: Floats, outside: Floats) -> tuple[Floats, Floats]:
    """Return for each score the share of those of the other kind that it is on the right side of, ties half.

    Either's mean is the AUROC, and the AUROC varies with the samples as the sum of both means does (DeLong et al.
    1988, "Comparing the areas under two or more correlated receiver operating characteristic curves").
    """
    return (1 - _shares_below(inside, outside)).astype(np.float32), _shares_below(outside, inside).astype(np.float32)


def _shares_below(scores: Floats, others: Floats) -> Floats:
    """Return for each score the share of others below it, ties half."""
    # In order, as looking up neighbours one after the other is several times as fast.
    order, others = np.argsort(scores), np.sort(others)
    twice = np.searchsorted(others, scores[order], "left") + np.searchsorted(others, scores[order], "right")
    shares = np.empty(len(scores))
    shares[order] = twice / (2 * len(others))
    return shares


def _calibration(record: Record, samples: Samples, resamples: int, seed: int) -> Found:
    replicates = None
    if "confidence" in samples:
        right = samples["clean_prediction"] == samples["label"]
        replicates = 100 * _drawn_calibration_errors(samples["confidence"], right, resamples, seed)
    yield (
        Metric("ece", "ECE", "calibration", higher_is_better=False),
        Outcome(100 * record.clean.ece, replicates=replicates, n_samples=record.n),
    )
    for name, label, unit in (("nll", "NLL", "nats"), ("brier", "Brier score", "")):
        parts = (samples[name],) if name in samples else ()
        yield (
            Metric(name, label, "calibration", unit, higher_is_better=False),
            Outcome(getattr(record.clean, name), parts, n_samples=record.n),
        )


def _drawn_calibration_errors(confidence: Floats, right: Floats, resamples: int, seed: int) -> Floats:
    """Return the expected calibration error of samples drawn with replacement, (R,)."""
    bins = confidence_bins(confidence.astype(np.float64))
    gaps = np.zeros((len(bins), int(bins.max()) + 1), np.float32)
    gaps[np.arange(len(bins)), bins] = right - confidence
    drawn: Floats = np.abs(_counts(len(bins), resamples, seed) @ gaps).sum(axis=1) / len(bins)
    return drawn


@lru_cache(maxsize=1)
def _counts(n: int, resamples: int, seed: int) -> Floats:
    # As floats, which matrices are multiplied by.
    return bootstrap_counts(n, resamples, seed).astype(np.float32)


def _hash(samples: Samples, *names: str) -> str | None:
    found = {name: samples[name] for name in names if name in samples}
    return hash_arrays(found)[:12] if found else None
