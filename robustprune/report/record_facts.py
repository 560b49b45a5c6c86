"""The provenance of the numbers: settings, checks, seeds, hashes, versions and command of each record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustprune.records import AttackEntry, Record
from robustprune.report.cells import NONE, badge

Facts = list[tuple[str, str]]


def describe_record(record: Record, group: str, name: str) -> dict[str, Any]:
    """Return what the page shows of one record of a group; ``name`` is its id on the page."""
    environment, seed = record.environment, record.model.seed
    training = {name: value for name, value in record.model.training.items() if name != "data"}
    return {
        "id": name,
        "title": f"{group}, {'no seed on record' if seed is None else f'seed {seed}'}",
        "summary": f"{100 * record.clean.accuracy:.1f} % of {record.n:,} {record.split} images · "
        f"{environment.get('created', 'no date')}",
        "blocks": [
            {"title": title, "facts": facts}
            for title, facts in (
                ("Network", _network(record)),
                ("Training", _flat(training)),
                ("Evaluation", _evaluation(record)),
                ("Optimality of attacks", _optimality(record)),
                ("Environment", _flat(environment)),
            )
            if facts
        ],
        "attacks": [_attack(entry) for entry in record.attacks],
    }


def _network(record: Record) -> Facts:
    model = record.model
    filters = model.plan.get("removed_filters") or {}
    maps = model.plan.get("replaced") or {}
    shown_elsewhere = ("removed", "removed_parts", "replaced", "eligible", "removed_filters")
    return _flat(
        {
            "file": model.path or NONE,
            "architecture": model.architecture,
            "weights, SHA-256": model.sha256,
            "initial seed": model.initial_seed,
            "parameters": f"{model.parameters:,}",
            "MACs per image": f"{model.macs:,}",
            "filters": f"{model.filters:,}",
            "removed": model.removed or "nothing",
            "linear maps": [
                f"{', '.join(each['blocks'])} in {each['merged_into'] or place}" for place, each in maps.items()
            ],
            "filters removed": [f"{layer} {len(gone)}" for layer, gone in filters.items()],
            "plan": {name: value for name, value in model.plan.items() if name not in shown_elsewhere and value != 0.0},
        }
    )


def _evaluation(record: Record) -> Facts:
    facts: dict[str, Any] = {
        "images": f"{record.n:,} of {record.dataset}, {record.split}",
        "images, SHA-256": record.samples_sha256,
        "outcomes per image": record.samples_file or NONE,
        "seed": record.seed,
        "seconds": f"{record.seconds:.1f}",
        "data": record.data,
    }
    if (found := record.corruptions) is not None:
        facts["corruptions"] = f"{', '.join(found.table)}; {found.n:,} images each"
        facts["corrupted images"] = found.source
        facts["scale of lengths in pixels"] = NONE if found.scale is None else f"× {found.scale:.3g}"
    if (proven := record.certified) is not None:
        facts["certified"] = (
            f"{proven.n:,} images, σ = {proven.sigma:g}, {proven.votes:,} votes after {proven.votes_to_choose:,} to "
            f"choose, α = {proven.alpha:g}"
        )
    if record.ood_summary is not None:
        facts["detection"] = record.ood_summary.protocol
    shown = _flat(facts)
    for entry in record.ood:
        shown.append(
            (f"out-of-distribution set {entry.dataset}", f"{entry.n_out:,} images, {_pairs(entry.conversions)}")
        )
        reasons = {name: figures.reason for name, figures in entry.detectors.items() if figures.reason}
        shown += [(f"{name} on {entry.dataset}", reason) for name, reason in reasons.items()]
    return shown


def _optimality(record: Record) -> Facts:
    return [
        (
            f"{entry.name}, {entry.norm}",
            f"{entry.optimality:.3f}; none comes closer on {100 * entry.nearest:.1f} % of the broken images",
        )
        for entry in record.optimality
    ]


def _attack(entry: AttackEntry) -> dict[str, Any]:
    low, high = entry.interval
    settings = {"steps": entry.steps, "restarts": entry.restarts, **entry.options}
    return {
        "name": f"{entry.name}, {entry.norm} {entry.epsilon:.4g}",
        "valid": entry.valid,
        "failed": ", ".join(check.name for check in entry.checks if check.verdict == "FAIL") or "unknown check",
        "accuracy": f"{100 * entry.robust_accuracy:.1f} %",
        "interval": f"{100 * low:.1f} – {100 * high:.1f} %",
        "settings": f"{_pairs(settings)}; {entry.gradient_evaluations:,} gradient and "
        f"{entry.forward_evaluations:,} forward evaluations in {entry.seconds:.1f} s",
        "checks": [
            {"verdict": badge(check.verdict.lower()), "name": check.name, "detail": check.detail}
            for check in entry.checks
        ],
    }


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {text}" for name, text in _flat(values))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Facts:
    """Return nested values as lines, with names joined by colons, without None and empty values."""
    facts: Facts = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            facts += _flat(value, f"{prefix}{name}: ")
        elif value is not None and value != [] and value != "":
            facts.append((f"{prefix}{name}".replace("_", " "), _text(value)))
    return facts


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(value)
