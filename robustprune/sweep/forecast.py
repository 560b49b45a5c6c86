"""What the rest of a sweep will take, from a few measured steps of each network on its images.

Training is counted by its steps, each as long as those measured of the dense network: tickets are faster. An image that
is classified counts as a third of one in a step, a gradient of an attack as a whole one, and attacks as if they had to
go all their steps on every image, which they need not once it is broken. What detectors, checks of attacks and
latencies take beside passes of images is left out, as are making and reading corrupted images. A figure to plan by:
neither a promise nor a bound.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

import torch

from robustprune.corruptions import SEVERITIES, expand_names
from robustprune.data import load_data
from robustprune.models import build_model
from robustprune.runtime.devices import choose_device
from robustprune.runtime.progress import counted, shown_progress
from robustprune.sweep.graph import Stage
from robustprune.training import Recipe, measure_steps

_SECONDS = 2.0  # measured of each network
_STEPS_TO_SCORE = 10  # criteria look at a few hundred images, as so many training steps do
_SECONDS_BESIDE = 0.5  # loading, folding, writing


def estimate(stages: Collection[Stage], workers: int) -> dict[str, Any]:
    """Return seconds, energy (kWh; None if it cannot be measured) and bytes on disk that stages will take."""
    seconds, energy, disk = 0.0, 0.0, 0
    forecasts: dict[str, Forecast] = {}
    for stage in counted(stages, shown_progress(), "measuring steps"):
        seconds += _SECONDS_BESIDE
        if stage.kind == "compare":
            continue
        # Scores and evaluations know no recipe: they go by the steps of a plain one.
        hints = {name: stage.hints[name] for name in ("model", "model_options", "data", "device", "country")}
        asked = [hints, stage.inputs["threads"], stage.inputs.get("recipe", "quick")]
        key = json.dumps(asked, sort_keys=True, default=str)
        if key not in forecasts:
            forecasts[key] = Forecast(*asked)
        taken = forecasts[key].seconds(stage)
        seconds += taken
        energy += taken * forecasts[key].watts / 3.6e6
        disk += forecasts[key].bytes_on_disk(stage)
    return {
        "seconds": seconds / workers,
        "energy_kwh": None if math.isnan(energy) else energy,
        "disk_bytes": disk,
        "workers": workers,
        "basis": "nothing is left"
        if not seconds
        else "from measured steps of each dense network; tickets and attacks that succeed early take less, making "
        "corrupted images and fitting detectors come on top",
    }


class Forecast:
    """How fast a network is on its images; watts are NaN where energy cannot be measured."""

    def __init__(self, hints: Mapping[str, Any], threads: int, recipe: Any) -> None:
        """Measure it."""
        torch.set_num_threads(threads)
        self.data = load_data(**hints["data"])
        network = build_model(hints["model"], self.data, **hints["model_options"])
        self.parameters = sum(value.numel() for value in network.state_dict().values())
        asked, device = Recipe.of(recipe), choose_device(hints["device"])
        self.step_seconds, watts = measure_steps(network, self.data, asked, device, hints["country"], _SECONDS)
        self.watts = math.nan if watts is None else watts
        self.image_seconds = self.step_seconds / min(asked.batch_size, len(self.data.require("train")))

    def seconds(self, stage: Stage) -> float:
        """Return how long a stage computes."""
        inputs = stage.inputs
        if stage.kind in ("dense", "tune", "train"):
            steps = max(1, len(self.data.require("train")) // inputs["recipe"]["batch_size"])
            epochs = inputs["recipe"]["epochs"] - inputs.get("epoch", 0)
            held_out = 0 if self.data.val is None else len(self.data.val)
            return float(epochs * (steps * self.step_seconds + held_out * self.image_seconds / 3))
        if stage.kind == "evaluate":
            return self._images(inputs["evaluate"]) * self._passes(inputs["evaluate"]) * self.image_seconds / 3
        if stage.kind == "score" or inputs.get("method") == "weight":
            return float(inputs.get("rounds", 1) * _STEPS_TO_SCORE * self.step_seconds)
        return 0.0

    def bytes_on_disk(self, stage: Stage) -> int:
        """Return how much a stage leaves: weights, or outcomes per sample, hardly compressed."""
        if stage.kind == "score":
            return 10_000
        if stage.kind != "evaluate":
            return int((1 + len(stage.hints.get("keep", ()))) * (4 * self.parameters + 50_000))
        asked = stage.inputs["evaluate"]
        attacks, ood = asked["attacks"], asked["ood"]
        columns = 3 + 3 * len(attacks.get("options", ())) * len(attacks.get("epsilons", ()))
        columns += _corrupted(asked["corruptions"]) + len(asked["shift"])
        columns += len(ood.get("sets", ())) * len(ood.get("detectors", ()))
        return 50_000 + 8 * columns * self._images(asked)

    def _images(self, asked: Mapping[str, Any]) -> int:
        there = len(self.data.require(asked["split"]))
        return min(asked["limit"] or there, there)

    def _passes(self, asked: Mapping[str, Any]) -> float:
        """Return how often an evaluation classifies its images; other sets count as large as they are."""
        attacks, ood_sets = asked["attacks"], len(asked["ood"].get("sets", ()))
        fitted = min(len(self.data.require("train")), 50_000) / self._images(asked) if ood_sets else 0
        gradients = sum(_steps(own) for own in attacks.get("options", {}).values())
        attacked = 3.0 * gradients * attacks.get("restarts", 1) * len(attacks.get("epsilons", ()))
        certified = asked.get("certify", {"n": 0, "n0": 0, "limit": None})
        images = self._images(asked)
        attacked += (certified["n"] + certified["n0"]) * min(certified["limit"] or images, images) / images
        return float(1 + _corrupted(asked["corruptions"]) + len(asked["shift"]) + ood_sets + fitted + attacked)


def _corrupted(asked: Mapping[str, Any]) -> int:
    """Return how many corrupted images there are of each: of a published set, as many as it usually has."""
    if "content" in asked:
        return len(SEVERITIES) * len(expand_names(asked["names"] or ["all"]))
    return len(SEVERITIES) * len(asked.get("options", ()))


def _steps(options: Mapping[str, Any]) -> float:
    """Return how many gradients an attack takes of an image; queries of a black box are a third of one each."""
    return float(options["queries"]) / 3 if options.get("queries") else float(options.get("steps") or 1)
