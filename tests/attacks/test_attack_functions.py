"""Every attack of the registry as a function that returns the images only."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

import robustprune.attacks
from robustprune.attacks import (
    ATTACKS,
    Attack,
    attack_options,
    get_attack,
    image_attack,
    pgd,
    register_attack,
    run_attack,
)
from robustprune.errors import AttackError, UnknownNameError

REFERENCE = Path(__file__).parents[2] / "docs/reference/python.md"
NAMES = [name for name, entry in ATTACKS.builtin.items() if not entry.argument]
# Fewer steps than by default: what is compared is the way in, not what comes out.
FEW = {"steps": 2, "queries": 5, "target_classes": 2}


def function_of(name: str) -> Any:
    return getattr(robustprune.attacks, name.replace("-", "_"))


@pytest.mark.parametrize("name", NAMES)
def test_every_attack_is_a_function_with_the_signature_of_pgd(name: str) -> None:
    function = function_of(name)
    assert function.__name__ == name.replace("-", "_")
    assert function.__name__ in robustprune.attacks.__all__
    assert f"`{name}`" in inspect.getdoc(function)  # type: ignore[operator]
    assert f"`{function.__name__}`" in REFERENCE.read_text()
    parameters, model = inspect.signature(function).parameters, inspect.signature(pgd).parameters
    common = [key for key in model if key not in attack_options("pgd")]
    assert [key for key in parameters if key not in attack_options(name)] == common
    assert common[:3] == ["model", "images", "labels"]
    found = {key: each.default for key, each in parameters.items()}
    assert found.items() >= attack_options(name).items()
    assert found["epsilon"] == Attack().epsilon


@pytest.mark.parametrize("name", NAMES)
def test_it_returns_the_images_of_run_attack(
    name: str, network: torch.nn.Module, test_images: torch.Tensor, test_labels: torch.Tensor
) -> None:
    images, labels = test_images[:8], test_labels[:8]
    options = {key: value for key, value in FEW.items() if key in attack_options(name)}
    # The ensembles of fixed length are soon done where nothing survives.
    epsilon = 0.9 if name in ("medium", "strong") else 16 / 255
    norm = getattr(get_attack(name), "norms", ("linf",))[0]
    budget = {} if norm == "l0" else {"epsilon": epsilon}
    settings: dict[str, Any] = {"norm": norm, "seed": 3, **budget, **options}
    found = function_of(name)(network, images, labels, **settings)
    assert torch.equal(found, run_attack(network, images, labels, name, **settings).adversarial)
    assert (found.shape, found.dtype) == (images.shape, torch.float32)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert norm == "l0" or float((found - images).abs().max()) <= epsilon + 1e-6


def test_short_names_are_the_same_functions() -> None:
    assert robustprune.attacks.apgd is robustprune.attacks.apgd_ce
    assert robustprune.attacks.fab is robustprune.attacks.fab_t


def test_one_of_ones_own_or_of_another_package_is_made_by_name(
    network: torch.nn.Module, test_images: torch.Tensor, test_labels: torch.Tensor
) -> None:
    @register_attack("straight-on")
    def straight_on(problem: Any, *, share: float = 1.0) -> None:
        problem.evaluate((problem.images + share * problem.epsilon).clamp(0, 1), "ce")

    try:
        attack = image_attack("straight-on")
        found = attack(network, test_images, test_labels, epsilon=0.5, share=0.5, early_stop=False, selection="last")
    finally:
        del ATTACKS._registered["straight-on"]
    is_right = network(test_images).argmax(dim=1) == test_labels
    torch.testing.assert_close(found[is_right], (test_images[is_right] + 0.25).clamp(max=1))
    assert attack.__name__ == "straight_on"
    with pytest.raises(AttackError, match="takes no option 'stepz'"):
        pgd(network, test_images, test_labels, stepz=1)
    with pytest.raises(UnknownNameError, match="no attack called 'pgdd'"):
        image_attack("pgdd")(network, test_images, test_labels)
    assert callable(get_attack("pgd"))


@pytest.mark.parametrize("name", ["torchattacks:CW"])
def test_functions_are_made_of_attacks_of_other_packages(name):
    assert image_attack(name).__name__ == "torchattacks_CW"
