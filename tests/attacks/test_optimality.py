"""Optimality of attacks: its areas by integration, and what is said of networks whose distances are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from robustprune.attacks import compare_attacks, describe_optimality, run_attack
from robustprune.metrics import attack_optimality


def _area(distances: np.ndarray, limit: float) -> float:
    """Return ∫ (clean accuracy − accuracy) dε from 0 to the limit, by the midpoint rule."""
    steps = 20_000
    budgets = (np.arange(steps) + 0.5) / steps * limit
    clean = (distances > 0).mean()
    robust = 1 - np.searchsorted(np.sort(distances), budgets, side="right") / len(distances)
    return float((clean - robust).mean() * limit)


@pytest.mark.parametrize("seed", [0, 1])
def test_optimality_is_the_ratio_of_the_areas_between_curves(seed: int) -> None:
    generator = np.random.default_rng(seed)
    distances = {name: generator.exponential(size=200) for name in ("first", "second", "third")}
    for values in distances.values():
        values[:20] = 0  # misclassified without an attack
        values[generator.permutation(200)[:30]] = np.inf
    for values in distances.values():
        values[:20] = 0
        values[190:] = np.inf  # that none breaks
    best = np.min(list(distances.values()), axis=0)
    limit = best[np.isfinite(best)].max()
    found = attack_optimality(distances | {"best": best})
    for name, values in distances.items():
        assert found[name].optimality == pytest.approx(_area(values, limit) / _area(best, limit), abs=1e-3)
        assert found[name].nearest == pytest.approx((values == best)[(best > 0) & np.isfinite(best)].mean())
    assert (found["best"].optimality, found["best"].nearest) == (1.0, 1.0)


def test_nothing_is_said_where_nothing_breaks() -> None:
    assert attack_optimality({"first": [0.0, np.inf], "second": [0.0, np.inf]}) == {}
    equal = attack_optimality({"first": [1.0, 1.0], "second": [1.0, np.inf]})
    assert [each.optimality for each in equal.values()] == [1.0, 0.5]


@pytest.fixture
def linear() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A linear network of two classes, images in the middle of the box, their classes."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(144, 2)).eval()
    images = 0.4 + 0.2 * torch.rand(30, 1, 12, 12)
    return network, images, network(images).argmax(dim=1)


def test_the_attack_that_finds_the_closed_form_is_optimal(
    linear: tuple[nn.Module, torch.Tensor, torch.Tensor],
) -> None:
    network, images, labels = linear
    runs = [run_attack(network, images, labels, name, norm="l2", steps=60) for name in ("fmn", "ddn")]
    assert [run.distances is not None for run in runs] == [True, True]
    few = [run_attack(network, images, labels, "pgd", norm="l2", epsilon=epsilon) for epsilon in (0.1, 0.3)]
    found = {entry.name: entry for entry in compare_attacks([*runs, *few])}
    weight = network[1].weight[1] - network[1].weight[0]
    exact = (network(images)[:, 1] - network(images)[:, 0]).abs() / weight.norm()
    reached = torch.stack([run.distances for run in runs]).amin(dim=0)
    assert (reached / exact).max() < 1.02
    assert min(found["fmn"].optimality, found["ddn"].optimality) > 0.97
    # It knows whether samples break at two budgets, and little in between.
    assert found["pgd"].optimality < found["fmn"].optimality
    text = describe_optimality(list(found.values()))[0]
    assert text.startswith("L2: ")
    assert "pgd 0." in text


def test_one_budget_or_one_attack_tells_nothing(linear: tuple[nn.Module, torch.Tensor, torch.Tensor]) -> None:
    network, images, labels = linear
    fgsm, pgd = (run_attack(network, images, labels, name, epsilon=0.05) for name in ("fgsm", "pgd"))
    wider = run_attack(network, images, labels, "pgd", epsilon=0.1)
    assert compare_attacks([fgsm, pgd]) == []
    assert compare_attacks([pgd, wider]) == []
    assert {entry.name for entry in compare_attacks([fgsm, pgd, wider])} == {"fgsm", "pgd"}
