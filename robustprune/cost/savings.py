"""What the training of one network saves against that of another (the paper's Table 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustprune.cost.counts import percent_saved

_SPENT = {"energy_kwh": "energy", "co2_kg": "co2", "seconds": "training_seconds"}
# What has to be equal for what trainings took to be comparable.
_CIRCUMSTANCES = {
    "seconds": ("epochs", "device", "threads", "processes"),
    "energy_kwh": ("epochs", "device", "threads", "processes", "energy_method"),
    "co2_kg": ("epochs", "device", "threads", "processes", "energy_method", "country"),
}


def training_circumstances(figure: str, training: Mapping[str, Any]) -> dict[str, Any]:
    """Return in what a figure of a ticket's ``training`` was measured; where no device is on record, that was a CPU."""
    return {name: training.get(name, "cpu" if name == "device" else None) for name in _CIRCUMSTANCES[figure]}


def saved_in_training(own: Mapping[str, Any], dense: Mapping[str, Any]) -> dict[str, float]:
    """Return the percentages of ``energy``, ``co2`` and ``training_seconds`` saved, from two tickets' ``training``.

    A figure that either does not have, or that was measured in other circumstances, is left out.
    """
    return {
        name: percent_saved(own[figure], dense[figure])
        for figure, name in _SPENT.items()
        if own.get(figure) is not None and dense.get(figure)
        if training_circumstances(figure, own) == training_circumstances(figure, dense)
    }
