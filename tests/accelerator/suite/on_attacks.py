"""Attacks on the accelerator find what they find on the processor; and how often the host waits for a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pretend import NAME, counting
from torch import Tensor, nn

from robustprune.attacks import ATTACKS, AttackResult, pgd, run_attack, security_curve, transfer_attack, union_attack
from robustprune.attacks.registry import attack_options, get_attack
from robustprune.runtime.work import Work

FEW: dict[str, Any] = {"steps": 3, "queries": 6, "target_classes": 2}
EPSILON = 0.06
OWN = [name for name in ATTACKS.builtin if name not in ("torchattacks", "foolbox")]


def options(attack: str) -> dict[str, Any]:
    return {name: value for name, value in FEW.items() if name in attack_options(attack)}


def tensors(result: AttackResult) -> dict[str, Any]:
    return {name: value for name, value in vars(result).items() if isinstance(value, Tensor)}


def check(here: AttackResult, there: AttackResult, same: Any) -> None:
    same(tensors(here), tensors(there))
    assert here.broken_by == there.broken_by
    assert [(each.name, each.verdict, each.detail) for each in here.checks] == [
        (each.name, each.verdict, each.detail) for each in there.checks
    ]
    assert (here.gradient_evaluations, here.forward_evaluations) == (
        there.gradient_evaluations,
        there.forward_evaluations,
    )


@pytest.mark.parametrize("attack", [*OWN, "torchattacks:FGSM", "foolbox:LinfFastGradientAttack"])
def test_attacks(attack: str, model: nn.Module, images: Tensor, labels: Tensor, same: Any) -> None:
    norm = getattr(get_attack(attack), "norms", ("linf",))[0]
    budget = {} if norm == "l0" else {"epsilon": EPSILON}
    here, there = (
        run_attack(model, images, labels, attack, norm=norm, device=device, **budget, **options(attack))
        for device in ("cpu", NAME)
    )
    assert here.n > 0
    check(here, there, same)


@pytest.mark.parametrize(
    "settings",
    [
        {"norm": "l2", "epsilon": 0.5},
        {"norm": "l1", "epsilon": 4.0},
        {"restarts": 2, "selection": "last", "early_stop": False},
        {"eot": 2},
        {"frozen": False, "batch_size": 5},
        {"checks": "full"},
    ],
    ids=str,
)
def test_pgd_with(settings: dict[str, Any], model: nn.Module, images: Tensor, labels: Tensor, same: Any) -> None:
    asked = {"epsilon": EPSILON, "steps": 3, **settings}
    check(*(run_attack(model, images, labels, "pgd", device=device, **asked) for device in ("cpu", NAME)), same)


def test_targets(model: nn.Module, images: Tensor, labels: Tensor, same: Any) -> None:
    asked: dict[str, Any] = {"epsilon": EPSILON, "targets": (labels + 1) % 10, "steps": 3}
    check(*(run_attack(model, images, labels, "pgd", device=device, **asked) for device in ("cpu", NAME)), same)


def test_several_attacks_and_budgets(model: nn.Module, images: Tensor, labels: Tensor, same: Any) -> None:
    for attack in (
        lambda device: union_attack(model, images, labels, ["fgsm", "pgd"], epsilon=EPSILON, device=device),
        lambda device: transfer_attack(model, model, images, labels, "fgsm", epsilon=EPSILON, device=device),
        lambda device: security_curve(
            model, images, labels, "pgd", epsilons=[0.02, EPSILON], steps=2, device=device
        ).results[-1],
    ):
        check(attack("cpu"), attack(NAME), same)


def test_images_come_back_where_they_were(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    expected = pgd(model, images, labels, epsilon=EPSILON, steps=3)
    for where in ("cpu", NAME):
        found = pgd(model, images.to(where), labels.to(where), epsilon=EPSILON, steps=3, device=NAME)
        assert found.device.type == where
        assert torch.equal(found.cpu(), expected)
    # Of a network that is there, images from either side.
    assert torch.equal(pgd(model, images.to(NAME), labels, epsilon=EPSILON, steps=3).cpu(), expected)


def test_a_function_gets_images_where_it_is_asked_for(images: Tensor, labels: Tensor) -> None:
    seen: list[str] = []

    def classify(images: Tensor) -> Tensor:
        seen.append(images.device.type)
        return images.flatten(1)[:, :10]

    run_attack(classify, images, labels, "fgsm", epsilon=EPSILON, device=NAME)
    assert set(seen) == {NAME}


def test_an_interrupted_attack_goes_on(
    model: nn.Module, images: Tensor, labels: Tensor, tmp_path: Path, same: Any
) -> None:
    def stop(_label: str, done: float, total: float) -> None:
        if done > 0.6 * total:
            raise KeyboardInterrupt

    asked: dict[str, Any] = {"epsilon": EPSILON, "device": NAME}
    whole = run_attack(model, images, labels, "quick", **asked)
    with pytest.raises(KeyboardInterrupt):
        run_attack(model, images, labels, "quick", **asked, work=Work(progress=stop, folder=tmp_path))
    run_attack(model, images, labels, "quick", **asked, work=Work(folder=tmp_path))
    resumed = run_attack(model, images, labels, "quick", **asked, work=Work(folder=tmp_path))
    same(tensors(whole), tensors(resumed))


@pytest.mark.parametrize("early_stop", [True, False])
def test_a_step_of_pgd_waits_at_most_twice(early_stop: bool, model: nn.Module, images: Tensor, labels: Tensor) -> None:
    counts = {}
    for steps in (5, 15):
        with counting() as waits:
            asked: dict[str, Any] = {"epsilon": 0.004, "steps": steps, "step_size": 0.001, "early_stop": early_stop}
            result = run_attack(model, images, labels, "pgd", device=NAME, **asked)
            counts[steps] = waits.total()
        assert not result.broken.all()
    assert counts[15] - counts[5] <= 10 * 2


@pytest.mark.parametrize(("attack", "norm"), [("ddn", "l2"), ("fmn", "linf"), ("fmn", "l1"), ("sigma-zero", "l0")])
def test_a_step_to_the_nearest_waits_at_most_twice(
    attack: str, norm: str, model: nn.Module, images: Tensor, labels: Tensor
) -> None:
    counts = {}
    for steps in (5, 15):
        with counting() as waits:
            run_attack(model, images, labels, attack, norm=norm, steps=steps, device=NAME)
            counts[steps] = waits.total()
    assert counts[15] - counts[5] <= 10 * 2
