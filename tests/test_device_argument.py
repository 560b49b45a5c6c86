"""Every public function that computes takes ``device`` in the same way, and says so in the same words."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

import robustprune as rp
from robustprune.ood import detectors

SENTENCE = (
    "device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``, … or ``auto``, the fastest there is; by default where "
    "the network's weights are. The network itself stays where it is."
)
OTHERWISE = {
    "train": "A ticket is back where it was afterwards.",
    "run_lottery": "by default on the processor, where networks are built.",
    "ablate": "by default on the processor, where networks are built.",
    "evaluate_models": "device: Likewise.",
}
NETWORKS = {"model", "models", "ticket", "first"}
LOOKS_ONLY = {
    "find_blocks",  # two images of noise, where the network is
    "prunable_convolutions",
    "prune_layers",
    "prune_filters",
    "rewind",
    "normalized",
    "export_model",  # for processors
}
"""Take a network and compute nothing that a device would be for."""


def functions() -> dict[str, Callable[..., Any]]:
    found = {name: getattr(rp, name) for name in rp.__all__ if inspect.isfunction(getattr(rp, name))}
    return {name: each for name, each in found.items() if NETWORKS & inspect.signature(each).parameters.keys()}


def test_those_that_compute_are_known() -> None:
    assert functions().keys() > LOOKS_ONLY
    assert len(functions().keys() - LOOKS_ONLY) >= 12


@pytest.mark.parametrize("name", sorted({*functions(), "run_lottery"} - LOOKS_ONLY))
def test_a_function_takes_a_device(name: str) -> None:
    parameter = inspect.signature(getattr(rp, name)).parameters["device"]
    assert (parameter.default, parameter.kind) == (None, inspect.Parameter.KEYWORD_ONLY)
    assert parameter.annotation == "Device"
    words = " ".join((inspect.getdoc(getattr(rp, name)) or "").split())
    if name == "score_weights":
        assert "Arguments and errors are those of :func:`score_filters`." in words
    else:
        assert OTHERWISE.get(name, SENTENCE) in words


@pytest.mark.parametrize("name", detectors.__all__)
def test_a_detector_takes_a_device(name: str) -> None:
    (field,) = (each for each in dataclasses.fields(getattr(detectors, name)) if each.name == "device")
    assert (field.default, field.kw_only) == (None, True)


def test_attacks_hand_it_on() -> None:
    words = inspect.getdoc(importlib.import_module("robustprune.attacks").pgd) or ""
    assert re.search(r"All further\s+arguments\s+are\s+those\s+of\s+`run_attack`", words)
