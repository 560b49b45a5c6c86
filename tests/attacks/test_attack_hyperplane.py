"""The shortest step onto a hyperplane within the box, against general-purpose optimizers."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from robustprune.attacks.hyperplane import step_onto


def cases(n=12, size=6):
    generator = torch.Generator().manual_seed(5)
    points = torch.rand(n, size, generator=generator, dtype=torch.float64)
    weights = torch.randn(n, size, generator=generator, dtype=torch.float64)
    weights[:3, 0] = 0
    reach = torch.where(weights > 0, weights * (1 - points), -weights * points).sum(1)
    # Half of them within reach, near and far, in both directions where the box allows it.
    offsets = reach * torch.linspace(0.05, 0.95, n, dtype=torch.float64)
    return points, weights, offsets


def by_linear_programme(point, weight, offset, norm):
    """Minimize t or Σt over (δ, t) with |δ| ≤ t."""
    size, eye = len(point), np.eye(len(point))
    bounds = np.column_stack([-point, 1 - point]).tolist()
    extra = 1 if norm == "linf" else size
    column = -np.ones((size, 1)) if norm == "linf" else -eye
    found = linprog(
        [0] * size + [1] * extra,
        A_ub=np.block([[eye, column], [-eye, column]]),
        b_ub=np.zeros(2 * size),
        A_eq=[[*weight, *[0] * extra]],
        b_eq=[offset],
        bounds=bounds + [(0, None)] * extra,
    )
    return found.fun


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_as_short_as_a_linear_programme_finds(norm):
    points, weights, offsets = cases()
    steps = step_onto(points, weights, offsets, norm)
    torch.testing.assert_close((weights * steps).sum(1), offsets)
    assert (points + steps).min() >= -1e-12
    assert (points + steps).max() <= 1 + 1e-12
    sizes = steps.abs().amax(1) if norm == "linf" else steps.abs().sum(1)
    for row, size in enumerate(sizes.tolist()):
        best = by_linear_programme(points[row].numpy(), weights[row].numpy(), float(offsets[row]), norm)
        assert size == pytest.approx(best, rel=1e-6)


def test_as_short_as_quadratic_optimization_finds():
    points, weights, offsets = cases()
    steps = step_onto(points, weights, offsets, "l2")
    torch.testing.assert_close((weights * steps).sum(1), offsets)
    for row, step in enumerate(steps):
        point, weight, offset = points[row].numpy(), weights[row].numpy(), float(offsets[row])
        found = minimize(
            lambda delta: delta @ delta,
            np.zeros(6),
            jac=lambda delta: 2 * delta,
            bounds=list(zip(-point, 1 - point, strict=True)),
            constraints={"type": "eq", "fun": lambda delta, w=weight, c=offset: w @ delta - c},
            method="SLSQP",
            options={"maxiter": 300, "ftol": 1e-14},
        )
        assert float(step @ step) == pytest.approx(found.fun, rel=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_out_of_reach_it_ends_in_the_nearest_corner(norm):
    points, weights, offsets = cases()
    steps = step_onto(points, weights, 100 + offsets, norm)
    corner = torch.where(weights > 0, 1.0, torch.where(weights < 0, 0.0, points))
    torch.testing.assert_close(points + steps, corner)


def test_backwards_is_the_mirror_image():
    points, weights, offsets = cases()
    for norm in ("linf", "l2", "l1"):
        torch.testing.assert_close(
            step_onto(points, -weights, -offsets, norm), step_onto(points, weights, offsets, norm)
        )
