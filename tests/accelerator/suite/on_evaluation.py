"""Evaluating, detecting, comparing, counting and freezing on the accelerator; a lottery and a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from pretend import NAME
from torch import Tensor, nn

import robustprune as rp
from robustprune.attacks import Attacks
from robustprune.corruptions import CORRUPTIONS, Corruptions, corrupt
from robustprune.cost import measure_latencies
from robustprune.data import ImageData
from robustprune.inference import freeze, predict_logits
from robustprune.lottery.algorithms import algorithm_2
from robustprune.ood import OOD, evaluate_ood
from robustprune.ood.detector import DETECTORS
from robustprune.ood.detectors import KNN, Energy
from robustprune.records import Record
from robustprune.sweep import Store, run_here
from robustprune.sweep.settings import RunSettings

VARYING = ("seconds", "environment", "latency_ms", "batch_latency_ms")


def essence(record: Record) -> dict[str, Any]:
    """What a record says, apart from times and the machine."""

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: without(each) for name, each in value.items() if name not in VARYING}
        return [without(each) for each in value] if isinstance(value, list) else value

    found: dict[str, Any] = without(record.model_dump(mode="json", exclude={"samples"}))
    return found


def test_evaluation(model: nn.Module, data: ImageData, same: Any) -> None:
    asked: dict[str, Any] = {
        "attacks": Attacks(["fgsm", "pgd"], epsilons=["4/255", "8/255"]),
        "corruptions": Corruptions(["gaussian_noise", "brightness"]),
        "certify": rp.Certify(0.05, n=50, n0=10, alpha=0.1),
        "latency": True,
        "limit": 12,
    }
    here, there = (rp.evaluate(model, data, device=device, **asked) for device in ("cpu", NAME))
    same(essence(here), essence(there))
    assert there.model.latency_ms is not None
    assert there.model.latency_ms["device"].startswith(NAME)


def test_several_networks_and_a_source(model: nn.Module, other: nn.Module, data: ImageData, same: Any) -> None:
    asked: dict[str, Any] = {"attacks": Attacks("fgsm", epsilons=["8/255"], transfer_from=other), "limit": 12}
    here, there = (
        rp.evaluate_models({"one": model, "two": other}, data, device=device, **asked) for device in ("cpu", NAME)
    )
    for name, record in here.items():
        same(essence(record), essence(there[name]))
    assert next(other.parameters()).device.type == "cpu"


@pytest.fixture
def inverted(data: ImageData, tmp_path: Path) -> str:
    """A folder's worth of images that are out of the distribution, as a published form."""
    path = tmp_path / "inverted.npz"
    pixels = 255 - data.require("test").take(torch.arange(40, 60))
    numpy.savez(path, test_images=pixels.permute(0, 2, 3, 1).numpy(), test_labels=numpy.zeros(20, numpy.int64))
    return f"npz:{path}"


@pytest.mark.parametrize("attacked", [False, True])
def test_detection(attacked: bool, model: nn.Module, data: ImageData, inverted: str, same: Any) -> None:
    own = {"attack_epsilons": [0.05], "attack_steps": 2, "attack_limit": 4} if attacked else {}
    # On the pretend device an attack on each of them takes seconds.
    detectors = ["msp", "energy", "knn", "odin"] if attacked else DETECTORS.names()
    asked = OOD([inverted], detectors=detectors, resamples=0, **own)
    here, there = (evaluate_ood(model, data, asked, limit=20, device=device) for device in ("cpu", NAME))
    for one, another in zip(here.entries, there.entries, strict=True):
        same(one.model_dump(mode="json"), another.model_dump(mode="json"))


@pytest.mark.parametrize("kind", [Energy, KNN])
def test_detectors_as_objects(kind: Any, model: nn.Module, data: ImageData, images: Tensor, same: Any) -> None:
    here, there = (kind(model, device=device).fit(data).score(images) for device in ("cpu", NAME))
    same(here, there)
    same(here, kind(model, device=NAME).fit(data).score(images.to(NAME)))


def test_representations(model: nn.Module, other: nn.Module, images: Tensor, same: Any) -> None:
    here, there = (rp.compare_representations(model, other, images, device=device) for device in ("cpu", NAME))
    same(here, there)


def test_cost(model: nn.Module, data: ImageData, images: Tensor) -> None:
    assert rp.measure_cost(model, images) == rp.measure_cost(model, images, device=NAME)
    dense = rp.prune_layers(model, rp.score_blocks(model, data, "random"), blocks=1, data=data)
    here, there = (rp.describe_cost(dense, dense, batch_size=4, device=device) for device in ("cpu", NAME))
    assert here == there
    timed = rp.describe_cost(dense, dense, batch_size=4, timed=True, seconds=0.2, device=NAME)
    assert timed["latency_ms"]["device"] == timed["training_speedup"]["device"] == NAME
    assert measure_latencies([model], seconds=0.1, device=NAME, example=images)[0].device == NAME


def test_frozen_copies_and_logits(model: nn.Module, images: Tensor, same: Any) -> None:
    frozen = freeze(model, images, device=NAME)
    assert {tensor.device.type for tensor in frozen.state_dict().values()} == {NAME}
    same(predict_logits(freeze(model, images), images), predict_logits(frozen, images))
    same(predict_logits(model, images), predict_logits(model, images, device=NAME))


@pytest.mark.parametrize("name", CORRUPTIONS.builtin)
def test_corruptions(name: str, images: Tensor) -> None:
    found = corrupt(images[:2].to(NAME), name, 3)
    assert found.device.type == NAME
    assert torch.equal(found.cpu(), corrupt(images[:2], name, 3))


def test_a_lottery(data: ImageData, tmp_path: Path) -> None:
    how: dict[str, Any] = {"model_options": {"width": 4}, "model": "resnet20", "country": None}
    recipe = rp.Recipe("quick", epochs=1, batch_size=60)
    here, there = (
        rp.run_lottery(tmp_path / device, data, algorithm_2("snip", 1), recipe, device=device, **how)
        for device in ("cpu", NAME)
    )
    assert [row.differences for row in here.rows] == [row.differences for row in there.rows]


def test_a_sweep(data: ImageData, tmp_path: Path, same: Any) -> None:
    """What workers do, in this process: they would be others, in which the device is not installed."""
    attacks = {"names": ["pgd"], "steps": 2}
    evaluation = {"limit": 10, "attacks": attacks, "corruptions": ["fog"], "ood": {"detectors": "msp", "sets": "noise"}}
    found = []
    for device in ("cpu", NAME):
        settings = {
            **{"model": "resnet20", "model_options": {"width": 4}, "recipe": {"epochs": 1, "batch_size": 60}},
            **{"evaluate": evaluation, "device": device, "country": None},
        }
        asked: list[dict[str, Any]] = [{"method": "dense"}, {"method": "layer", "criterion": "random", "blocks": 1}]
        runs = [RunSettings.model_validate({**settings, "pruning": each}) for each in asked]
        found.append([each.read() for each in run_here("two", runs, data, tmp_path / device)])
    store = Store(tmp_path / NAME)
    done = [store.describe(address) for address in store.done()]
    assert {each["environment"]["device"] for each in done if each["kind"] != "compare"} == {NAME}
    for here, there in zip(*found, strict=True):
        assert here.clean.accuracy == there.clean.accuracy
        same(here.attacks[0].robust_accuracy, there.attacks[0].robust_accuracy)


@pytest.mark.parametrize("device", ["auto", NAME])
def test_saved_where_there_is_none(device: str, model: nn.Module, data: ImageData, tmp_path: Path) -> None:
    ticket = rp.prune_layers(model, rp.score_blocks(model, data, "random", device=device), blocks=1, data=data)
    digest = ticket.sha256
    ticket.network.to(NAME)
    ticket.save(tmp_path / "ticket.pt")
    found = rp.load_ticket(tmp_path / "ticket.pt", into=model)
    assert next(found.network.parameters()).device.type == "cpu"
    assert found.sha256 == digest
