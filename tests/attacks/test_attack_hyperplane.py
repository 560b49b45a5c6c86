"""The shortest step onto a hyperplane within the box, against general-purpose optimizers."""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, linprog, minimize

from robustprune.attacks.fab import step_onto


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


def images(n=30, size=784):
    """Return points (n, D), a third of them at either end, and weights of many magnitudes, some of them zero."""
    generator = torch.Generator().manual_seed(6)
    points = (3 * torch.rand(n, size, generator=generator, dtype=torch.float64) - 1).clamp(0, 1)
    weights = torch.randn(n, size, generator=generator, dtype=torch.float64)
    weights *= 10 ** (-6 * torch.rand(n, size, generator=generator, dtype=torch.float64))
    weights[:, ::7] = 0
    return points, weights, torch.where(weights > 0, weights * (1 - points), -weights * points).sum(1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_of_the_size_of_an_image_it_takes_the_time_that_a_root_finder_finds(norm):
    points, weights, reach = images()
    shares = torch.linspace(0, 1.2, len(reach), dtype=torch.float64)
    steps = step_onto(points, weights, shares * reach, norm)
    for point, weight, share, step in zip(points, weights, shares, steps, strict=True):
        direction, speed = weight.sign(), torch.ones_like(weight) if norm == "linf" else weight.abs()
        walls = torch.where(weight > 0, 1 - point, point)

        def moved(time, direction=direction, speed=speed, walls=walls):
            return direction * torch.minimum(time * speed, walls)

        def missing(time, moved=moved, weight=weight, share=share, walls=walls):
            return float(weight @ moved(time) - share * (weight.abs() @ walls))

        # No wall is further than 1, and no weight but zero slower than that.
        latest = 1 / float(speed[weight != 0].min())
        time = brentq(missing, 0, latest, xtol=1e-15, rtol=1e-14) if share < 1 else latest
        torch.testing.assert_close(step, moved(time), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("share", [0.1, 0.999999, 1.0])
def test_single_precision_meets_the_hyperplane_up_to_rounding(norm, share):
    points, weights, reach = images()
    points, weights, offsets = points.float(), weights.float(), (share * reach).float()
    met = (weights.double() * step_onto(points, weights, offsets, norm)).sum(1)
    torch.testing.assert_close(met, offsets.double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_step_does_not_depend_on_the_others(norm):
    points, weights, reach = (part.float() for part in images())
    offsets = reach * torch.linspace(-0.5, 1.2, len(reach))
    weights[3], weights[4] = torch.nan, 0
    offsets[5], offsets[6] = 0, torch.inf
    together = step_onto(points, weights, offsets, norm)
    alone = [step_onto(*part, norm) for part in zip(points.split(1), weights.split(1), offsets.split(1), strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=0, equal_nan=True)
    assert together.isfinite().all(1).tolist() == [row != 3 for row in range(len(reach))]
    assert not together[4:6].any()
    torch.testing.assert_close(points[6] + together[6], torch.where(weights[6] != 0, weights[6] > 0, points[6]))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("share", [0.25, 0.5, 1 - 1e-9])
def test_it_arrives_where_a_step_passes_one_wall_at_a_time(norm, share):
    # Every entry brings as much until it is at its wall, but the next takes at least twice as long.
    powers = 2 ** torch.arange(50, dtype=torch.float64)[None]
    points, weights, offset = 1 - 1 / powers, powers, torch.tensor([50 * share], dtype=torch.float64)
    torch.testing.assert_close((weights * step_onto(points, weights, offset, norm)).sum(1), offset)
