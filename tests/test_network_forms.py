"""Networks in every form through detection, evaluation, comparison of representations and costs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from network_forms import FUNCTIONS, IMAGES, MODULES, expected_logits, make, make_net

import robustprune as rp
from robustprune.attacks import run_attack
from robustprune.attacks.requests import Attacks
from robustprune.cost import measure_cost
from robustprune.data import ImageData, load_data
from robustprune.errors import EvaluationError, ModelError
from robustprune.evaluation.similarity import compare_representations
from robustprune.ood import OOD, evaluate_ood

HIDDEN = [name for name in MODULES if "script" in name or "export" in name or name == "trace"]
KINDS = [*MODULES, *(name for name in FUNCTIONS if name != "without gradients")]


@pytest.fixture(autouse=True)
def _strictly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    path = tmp_path_factory.mktemp("data") / "set.npz"
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (60, 8, 8, 3)).astype(np.uint8)
    labels = np.arange(60) % 5
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:30], test_labels=labels[:30])
    return load_data(f"npz:{path}")


def modes(model: Any) -> list[Any]:
    return [getattr(module, "training", None) for module in model.modules()] if hasattr(model, "modules") else []


@pytest.mark.quick_cases(8)
@pytest.mark.parametrize("name", KINDS)
def test_detectors(name: str, data: ImageData) -> None:
    settings: dict[str, Any] = {"fit_limit": 40, "resamples": 0}
    settings |= {"attack_epsilons": 0.02, "attack_steps": 1, "attack_limit": 5}
    asked = OOD(["noise"], detectors=["msp", "knn", "odin"], **settings)
    wanted = evaluate_ood(make_net(), data, asked, limit=30).entries[0]
    model = make(name)
    before = modes(model)
    found = evaluate_ood(model, data, asked, limit=30).entries[0]
    assert modes(model) == before
    for detector in ("msp", "knn", "odin"):
        if detector == "knn" and name in HIDDEN:
            assert "TorchScript or torch.export does not show its layers" in str(found.detectors[detector].reason)
        else:
            assert found.detectors[detector].auroc == pytest.approx(wanted.detectors[detector].auroc, abs=0.01)


@pytest.mark.quick_cases(8)
@pytest.mark.parametrize("name", KINDS)
def test_evaluation(name: str, data: ImageData) -> None:
    settings: dict[str, Any] = {"attacks": Attacks("fgsm", epsilons=np.float32(0.02)), "corruptions": "brightness"}
    settings["certify"] = {"sigma": 0.05, "n": 30, "n0": 10, "alpha": 0.1, "limit": 10}
    wanted = rp.evaluate(make_net(), data, **settings)
    found = rp.evaluate(make(name), data, **settings)
    assert found.clean.accuracy == wanted.clean.accuracy
    assert found.clean.nll == pytest.approx(wanted.clean.nll, rel=1e-4)
    assert found.attacks[0].robust_accuracy == wanted.attacks[0].robust_accuracy
    assert found.corruptions is not None
    assert wanted.corruptions is not None
    assert found.corruptions.table == wanted.corruptions.table
    assert found.certified is not None
    assert wanted.certified is not None
    # Rounding may turn a vote.
    assert found.certified.average_radius == pytest.approx(wanted.certified.average_radius, abs=0.002)
    assert found.model.macs == wanted.model.macs
    if "frozen" not in name:
        assert found.model.parameters == wanted.model.parameters == 3 * 4 * 9 + 4 + 8 + 25


@pytest.mark.parametrize("name", KINDS)
def test_representations_are_like_the_networks_own_or_hidden(name: str) -> None:
    if name in HIDDEN:
        with pytest.raises(EvaluationError, match=r"does not show its layers.*hand over the nn\.Module"):
            compare_representations(make(name), make_net(), IMAGES)
    else:
        assert compare_representations(make(name), make_net(), IMAGES) == {"penultimate": pytest.approx(1)}


def test_a_network_is_timed_unless_it_is_a_function_which_is_said_first(data: ImageData) -> None:
    with pytest.raises(ModelError, match="a plain function cannot be timed"):
        rp.evaluate(make("closure"), data, latency=True)  # type: ignore[arg-type]


@pytest.mark.quick_cases(5)
@pytest.mark.parametrize("name", ["script", "frozen script", "export", "closure", "compiled"])
@pytest.mark.parametrize("attack", ["torchattacks:FGSM", "foolbox:LinfFastGradientAttack", "autoattack", "square"])
def test_other_attacks(name: str, attack: str) -> None:
    labels = expected_logits().argmax(dim=1)
    settings: dict[str, Any] = {"attack": attack, "epsilon": 0.02}
    wanted = run_attack(make_net(), IMAGES, labels, **settings)
    found = run_attack(make(name), IMAGES, labels, **settings)
    assert torch.equal(found.broken, wanted.broken)


def test_costs_are_those_of_the_type_and_of_images_that_fit() -> None:
    for kind in (torch.float64, torch.bfloat16):
        assert measure_cost(make_net().to(kind), IMAGES[:1]).macs == measure_cost(make_net(), IMAGES[:1]).macs
    with pytest.raises(ModelError, match="cannot run on images of shape"):
        measure_cost(make_net(), torch.rand(1, 1, 8, 8))


def test_a_ticket_is_not_a_network(tmp_path: Path) -> None:
    ticket = rp.Ticket.from_model(rp.build_model("resnet20", load_data("digits"), width=4))
    with pytest.raises(ModelError, match=r"got a Ticket; hand over its model\(\)"):
        run_attack(ticket, torch.rand(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64))  # type: ignore[arg-type]
