"""What the rest of a sweep will take, from a few measured steps of each network on its images.

Training is counted by its steps, each as long as those measured of the dense network: tickets are faster. Attacks are
counted as if they had to go all their steps on every image, which they need not once it is broken. What
detectors, checks of attacks and latencies take beside passes of images is left out, as are making and reading corrupted
images. A figure to plan by: neither a promise nor a bound.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from robustprune.corruptions import EXTRAS, HEADLINE, SEVERITIES
from robustprune.data import load_data
from robustprune.evaluation.shift import load_shift
from robustprune.inference import predict_logits
from robustprune.models import build_model
from robustprune.runtime.work import choose_device
from robustprune.sweep.graph import Stage
from robustprune.training import Recipe, measure_steps

_SECONDS = 2.0  # measured of each network
_STEPS_TO_SCORE = 10  # criteria look at a few hundred images, as so many training steps do
_GROUPS = {"all": len(HEADLINE), "extras": len(EXTRAS)}
_SECONDS_BESIDE = 0.5  # loading, folding, writing


_BASIS = (
    "from measured steps of each dense network; tickets and attacks that succeed early take less, making "
    "corrupted images and fitting detectors come on top"
)


def estimate(stages: Iterable[Stage], workers: int) -> dict[str, Any]:
    """Return seconds, energy (kWh; None if it cannot be measured) and bytes on disk that stages will take.

    Args:
        stages: What is left to do.
        workers: Processes side by side.

    Raises:
        RobustPruneError: A network or its images cannot be had.
    """
    seconds, energy, disk = 0.0, 0.0, 0
    known: dict[str, _Pace] = {}
    unknown_energy = False
    for stage in stages:
        if stage.kind == "compare":
            seconds += _SECONDS_BESIDE
            continue
        pace = _pace(stage, known)
        taken = pace.seconds(stage)
        seconds += taken
        disk += pace.bytes_on_disk(stage)
        unknown_energy |= pace.watts is None
        energy += taken * (pace.watts or 0.0) / 3.6e6
    return {
        "seconds": seconds / workers,
        "energy_kwh": None if unknown_energy else energy,
        "disk_bytes": disk,
        "workers": workers,
        "basis": _BASIS if seconds else "nothing is left",
    }


class _Pace:
    """How fast a network is on its images."""

    def __init__(self, stage: Stage) -> None:
        torch.set_num_threads(stage.inputs["threads"])
        hints = stage.hints
        device = choose_device(hints["device"])
        self.data = load_data(**hints["data"])
        self._sizes: dict[str, int] = {}
        network = build_model(hints["model"], self.data, **hints["model_options"])
        self.parameters = sum(value.numel() for value in network.state_dict().values())
        recipe = Recipe.of(stage.inputs.get("recipe", "quick"))
        self.step_seconds, self.watts = measure_steps(network, self.data, recipe, device, hints["country"], _SECONDS)
        images = self.data.require("train").take(torch.arange(min(128, len(self.data.require("train")))))
        predict_logits(network.to(device), images)
        start = time.perf_counter()
        predict_logits(network, images)
        self.forward_seconds = (time.perf_counter() - start) / len(images)

    def seconds(self, stage: Stage) -> float:
        """Return how long a stage takes."""
        inputs = stage.inputs
        if stage.kind in ("dense", "train"):
            steps = max(1, len(self.data.require("train")) // inputs["recipe"]["batch_size"])
            epochs = inputs["recipe"]["epochs"] - inputs.get("epoch", 0)
            held_out = 0 if self.data.val is None else len(self.data.val)
            return float(_SECONDS_BESIDE + epochs * (steps * self.step_seconds + held_out * self.forward_seconds))
        if stage.kind == "score":
            return _SECONDS_BESIDE + _STEPS_TO_SCORE * self.step_seconds
        if stage.kind == "prune" and inputs["method"] == "weight":
            return float(_SECONDS_BESIDE + inputs["rounds"] * _STEPS_TO_SCORE * self.step_seconds)
        if stage.kind == "evaluate":
            images = self._passes(inputs["evaluate"]) + self._shifted(stage)
            return _SECONDS_BESIDE + images * self.forward_seconds
        return _SECONDS_BESIDE

    def _passes(self, asked: Mapping[str, Any]) -> float:
        """Return through how many images an evaluation goes, a gradient counted as three."""
        images = self._images(asked)
        corrupted = _corrupted(asked["corruptions"])
        foreign = len(asked["ood"].get("sets", ()))
        fitted = min(len(self.data.require("train")), 50_000) if foreign else 0
        attacks = asked["attacks"]
        gradients = sum(_steps(own) for own in attacks.get("options", {}).values())
        attacked = 3.0 * gradients * attacks.get("restarts", 1) * len(attacks.get("epsilons", ()))
        return float(images * (1 + corrupted + foreign + attacked) + fitted)

    def _shifted(self, stage: Stage) -> int:
        """Return how many images there are in sets from elsewhere, which are evaluated whole."""
        asked = stage.hints["evaluate"]["shift"]["sets"]
        for where in asked.values():
            if where not in self._sizes:
                self._sizes[where] = len(load_shift(where, self.data)[1])
        return sum(self._sizes[where] for where in asked.values())

    def _images(self, asked: Mapping[str, Any]) -> int:
        there = len(self.data.require(asked["split"]))
        return min(asked["limit"] or there, there)

    def bytes_on_disk(self, stage: Stage) -> int:
        """Return how much a stage leaves: weights, or outcomes per sample, hardly compressed."""
        if stage.kind in ("dense", "weights", "prune", "train"):
            return int((1 + len(stage.hints.get("keep", ()))) * (4 * self.parameters + 50_000))
        if stage.kind != "evaluate":
            return 10_000
        asked = stage.inputs["evaluate"]
        attacks, corruptions, ood = asked["attacks"], asked["corruptions"], asked["ood"]
        each = 24 + 24 * len(attacks.get("options", ())) * len(attacks.get("epsilons", ()))
        each += _corrupted(corruptions)
        each += 8 * len(ood.get("sets", ())) * len(ood.get("detectors", ()))
        return int(50_000 + each * self._images(asked) + 16 * self._shifted(stage))


def _corrupted(asked: Mapping[str, Any]) -> int:
    """Return how many corrupted images there are of each: of a published set, as many as it usually has."""
    if "content" in asked:
        return len(SEVERITIES) * sum(_GROUPS.get(name, 1) for name in asked["names"] or ["all"])
    return len(SEVERITIES) * len(asked.get("options", ()))


def _steps(options: Mapping[str, Any]) -> float:
    """Return how many gradients an attack takes of an image; queries of a black box are a third of one each."""
    if options.get("queries"):
        return float(options["queries"]) / 3
    return float(options.get("steps") or 1)


def _pace(stage: Stage, known: dict[str, _Pace]) -> _Pace:
    hints = {name: stage.hints[name] for name in ("model", "model_options", "data", "device", "country")}
    recipe = stage.inputs.get("recipe")
    place = json.dumps([hints, stage.inputs["threads"]], sort_keys=True, default=str)
    exact = f"{place} {json.dumps(recipe, sort_keys=True)}"
    if recipe is None and place in known:
        return known[place]
    if exact not in known:
        known[exact] = _Pace(stage)
        known.setdefault(place, known[exact])
    return known[exact]
