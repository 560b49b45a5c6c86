"""The metrics of one record: what was measured of a network, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robustprune.attacks.norms import write_budget, write_norm
from robustprune.comparison.difference import calibration_spread, placements
from robustprune.comparison.metric import (
    SHARE,
    Floats,
    Metric,
    MetricValue,
    MetricValues,
)
from robustprune.corruptions import HEADLINE
from robustprune.cost import training_circumstances
from robustprune.metrics import proven, resampled_medians
from robustprune.records import Record, Samples, tidy
from robustprune.runtime.files import hash_arrays

Found = Iterator[tuple[Metric, MetricValue]]

COSTS = tuple(Metric(key, label, "cost", unit, higher_is_better=False) for key, (label, unit) in tidy.COSTS.items())

# As stable keys have them: plain letters, to be typed.
_NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1", "l0": "L0"}
# Options that change how an attack computes and not what it finds, or that follow from other options.
_INCIDENTAL = ("seed", "batch_size", "frozen", "early_stop", "stages", "samples_together")


def read_metrics(record: Record, *, resamples: int = 1000, seed: int = 0) -> MetricValues:
    """Return the value of each metric of a record, with the contributions of its samples.

    Calibration errors and medians are no means, so their variance takes a bootstrap with ``resamples`` samples.
    """
    samples = record.samples or {}
    found: MetricValues = {}
    for read in (_accuracy, _attacks, _certified, _corruptions, _shift, _detection):
        found |= read(record, samples)
    found |= _distances(record, samples, resamples, seed)
    return {**found, **dict(_calibration(record, samples, resamples, seed)), **dict(_costs(record))}


def _share(key: str, label: str, group: tidy.Group, share: float, right: Floats | None, **facts: Any) -> Found:
    """Yield a metric that is the share of right samples (n,), in percent."""
    yield Metric(key, label, group), MetricValue(100 * share, () if right is None else (right,), SHARE, **facts)


def _accuracy(record: Record, samples: Samples) -> Found:
    right = samples["clean_prediction"] == samples["label"] if samples else None
    return _share("accuracy", "accuracy", "accuracy", record.clean.accuracy, right, n_samples=record.n)


def _attacks(record: Record, samples: Samples) -> Found:
    for i, entry in enumerate(record.attacks):
        failed = [check.name for check in entry.checks if check.verdict == "FAIL"]
        yield from _share(
            f"robust_accuracy[{entry.name} {_NORMS.get(entry.norm, entry.norm)} {entry.epsilon:.3g}]",
            f"{entry.name} {write_budget(entry.epsilon, entry.norm)}",
            "robustness",
            entry.robust_accuracy,
            samples[f"attack{i}_broken"] == 0 if samples else None,
            n_samples=record.n,
            settings={
                **{"epsilon": entry.epsilon, "steps": entry.steps, "restarts": entry.restarts},
                **_essential(entry.options),
            },
            seed=record.seed,
            problem=None if entry.valid else f"failed check: {', '.join(failed) or 'unknown'}",
        )


def _distances(record: Record, samples: Samples, resamples: int, seed: int) -> Found:
    """Yield the median distance of each minimum-norm attack, its variance over samples by the bootstrap."""
    places = {(entry.name, entry.norm): place for place, entry in enumerate(record.attacks) if entry.distance}
    for (name, norm), place in places.items():
        entry = record.attacks[place]
        key = f"median_distance[{name} {_NORMS.get(norm, norm)}]"
        metric = Metric(key, f"{name} {write_norm(norm)}, median distance", "distance", unit="")
        facts: dict[str, Any] = {"settings": _essential(entry.options), "seed": record.seed, "n_samples": record.n}
        assert entry.distance is not None
        drawn = resampled_medians(samples[f"attack{place}_distance"], resamples, seed) if samples else None
        median, problem = entry.distance.median, None if entry.valid else "failed check"
        if median is None or (drawn is not None and not np.isfinite(drawn).all()):
            problem = "about half of the images were broken at no distance, so the median is not known"
        yield metric, MetricValue(median or 0.0, replicates=None if problem else drawn, problem=problem, **facts)


def _essential(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that decide what an attack finds; those of an ensemble hold the options of its members."""
    return {
        name: _essential(value) if isinstance(value, Mapping) else value
        for name, value in options.items()
        if name not in _INCIDENTAL
    }


def _certified(record: Record, samples: Samples) -> Found:
    found = record.certified
    if found is None:
        return
    facts: dict[str, Any] = {
        "n_samples": found.n,
        "settings": {
            **{"sigma": found.sigma, "n": found.votes, "n0": found.votes_to_choose, "alpha": found.alpha},
            "images": _hash(samples, "certified_index"),
        },
        "seed": record.seed,
    }
    radii, right = samples.get("certified_radius"), None
    if radii is not None:
        right = samples["certified_prediction"] == samples["certified_label"]
    for each in found.at:
        certain = None if radii is None or right is None else proven(radii, right, each.radius)
        key, label = f"certified_accuracy[L2 {each.radius:.3g}]", f"certified at {write_norm('l2')} {each.radius:.3g}"
        yield from _share(key, label, "certification", each.accuracy, certain, **facts)
    parts = () if radii is None or right is None else (radii * right,)
    metric = Metric("certified_radius", "certified radius, mean", "certification", "")
    yield metric, MetricValue(found.average_radius, parts, **facts)


def _corruptions(record: Record, samples: Samples) -> Found:
    found = record.corruptions
    if found is None:
        return
    names = HEADLINE if set(HEADLINE) <= set(found.table) else tuple(sorted(found.table))
    cells = found.counted(names)
    truth = samples.get("corruption_label", samples.get("label"))
    hits: Floats | None = None
    if truth is not None:
        hits = np.zeros(len(truth), np.float32)
        for name, severity in cells:
            hits += samples[f"corruption_{name}_{severity}"] == truth
        hits /= max(1, len(cells))
    yield from _share(
        "corruption_accuracy",
        "corruptions, mean",
        "corruptions",
        float(np.mean([found.table[name][severity - 1] for name, severity in cells])) if cells else 0.0,
        hits,
        n_samples=found.n,
        settings={
            "source": Path(found.source).name,  # without its folder, which differs between machines
            "corruptions": list(names),
            "left out, as they change no image": {name: found.unchanged.get(name, []) for name in names},
            "scale": found.scale,
            "n": found.n,
            "images": _hash(samples, "corruption_label"),
        },
        seed=None if found.published else record.seed,  # published images do not depend on a seed
        problem=None if cells else "the corruptions change no image",
    )


def _shift(record: Record, samples: Samples) -> Found:
    for i, entry in enumerate(record.shift):
        right = samples[f"shift{i}_prediction"] == samples[f"shift{i}_label"] if samples else None
        settings = {"n": entry.n, "labels": _hash(samples, f"shift{i}_label")}
        key = f"shift_accuracy[{entry.name}]"
        yield from _share(key, entry.name, "shift", entry.accuracy, right, n_samples=entry.n, settings=settings)


def _detection(record: Record, samples: Samples) -> Found:
    for i, entry in enumerate(record.ood):
        assert record.ood_summary is not None
        protocol = record.ood_summary.protocol
        settings = {
            "out-of-distribution images": entry.n_out,
            "conversions": entry.conversions,
            # None where no detector had to be fitted.
            "fitted on": protocol.get("fitted_on") or None,
            "tuned on": (protocol.get("tuned_on") or {}).get("dataset", "nothing"),
            "places": _hash(samples, "ood_in_index", f"ood{i}_index"),
        }
        for name, figures in entry.detectors.items():
            metric = Metric(f"auroc[{name} {entry.dataset}]", f"{name}, {entry.dataset}", "ood")
            facts: dict[str, Any] = {"settings": settings, "seed": record.seed, "n_samples": entry.n_in + entry.n_out}
            if figures.auroc is None:
                yield metric, MetricValue(0.0, settings=settings, problem=figures.reason or "there is no figure")
            else:
                parts = placements(samples[f"ood_in_{name}"], samples[f"ood{i}_{name}"]) if samples else ()
                yield metric, MetricValue(100 * figures.auroc, parts, SHARE, **facts)


def _calibration(record: Record, samples: Samples, resamples: int, seed: int) -> Found:
    spread: dict[str, Any] = {}
    if "confidence" in samples:
        right = samples["clean_prediction"] == samples["label"]
        drawn, bias, bias_error = calibration_spread(samples["confidence"], right, resamples, seed)
        spread = {"replicates": SHARE * drawn, "bias": SHARE * bias, "bias_error": SHARE * bias_error}
    ece = Metric("ece", "ECE", "calibration", higher_is_better=False)
    yield ece, MetricValue(SHARE * record.clean.ece, n_samples=record.n, **spread)
    for name, label, unit in (("nll", "NLL", "nats"), ("brier", "Brier score", "")):
        metric = Metric(name, label, "calibration", unit, higher_is_better=False)
        parts = (samples[name],) if name in samples else ()
        yield metric, MetricValue(getattr(record.clean, name), parts, n_samples=record.n)


def _hash(samples: Samples, *names: str) -> str | None:
    found = {name: samples[name] for name in names if name in samples}
    return hash_arrays(found)[:12] if found else None


def _costs(record: Record) -> Found:
    costs = record.model.costs
    for metric in COSTS:
        if (cost := costs[metric.key]) is not None:
            yield metric, MetricValue(float(cost), settings=_circumstances(metric.key, record))


def measured_alike(key: str, own: Record, dense: Record) -> bool:
    """Return whether a cost, given by the key of its metric, was measured under comparable circumstances."""
    return _circumstances(key, own) == _circumstances(key, dense)


def _circumstances(key: str, record: Record) -> dict[str, Any]:
    if key in tidy.OF_TRAINING:
        return training_circumstances(tidy.OF_TRAINING[key], record.model.training)
    return {name: (record.model.latency_ms or {}).get(name) for name in ("threads", "device") if key == "latency"}
