"""What networks cost, from their records: counted, or measured."""

from __future__ import annotations

from typing import Any

from robustprune.comparison.outcomes import Metric, Outcome, Outcomes
from robustprune.cost import training_circumstances
from robustprune.records import Record

COUNTED = (
    Metric("macs", "MACs per image", "cost", "MACs", higher_is_better=False),
    Metric("parameters", "parameters", "cost", "", higher_is_better=False),
    Metric("memory", "memory in training", "cost", "bytes", higher_is_better=False),
)
MEASURED = (
    Metric("latency", "latency, 1 image", "cost", "ms", higher_is_better=False),
    Metric("training_seconds", "training time", "cost", "s", higher_is_better=False),
    Metric("energy_kwh", "training energy", "cost", "kWh", higher_is_better=False),
    Metric("co2_kg", "training CO₂", "cost", "kg", higher_is_better=False),
)


def cost_outcomes(record: Record) -> Outcomes:
    """Return the costs that a record knows of."""
    model, training = record.model, record.model.training
    figures: dict[str, float | None] = {
        "macs": model.macs,
        "parameters": model.parameters,
        "memory": model.training_memory,
        "latency": (model.latency_ms or {}).get("median"),
        "training_seconds": training.get("seconds"),
        "energy_kwh": training.get("energy_kwh"),
        "co2_kg": training.get("co2_kg"),
    }
    return {
        metric: Outcome(float(figure), settings=_circumstances(metric.key, record))
        for metric in (*COUNTED, *MEASURED)
        if (figure := figures.get(metric.key)) is not None
    }


# Of figures of training, by the keys of their metrics.
_OF_TRAINING = {"training_seconds": "seconds", "energy_kwh": "energy_kwh", "co2_kg": "co2_kg"}


def measured_alike(key: str, own: Record, dense: Record) -> bool:
    """Return whether a cost, by the key of its metric, was measured in circumstances that allow to compare it."""
    return _circumstances(key, own) == _circumstances(key, dense)


def _circumstances(key: str, record: Record) -> dict[str, Any]:
    """Return what has to be equal for costs that were measured to be comparable."""
    if key in _OF_TRAINING:
        return training_circumstances(_OF_TRAINING[key], record.model.training)
    return {name: (record.model.latency_ms or {}).get(name) for name in ("threads", "device") if key == "latency"}
