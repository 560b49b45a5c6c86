import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robustprune.attacks import run_attack
from robustprune.attacks.norms import NORMS, contain

ORDERS = {"linf": np.inf, "l2": 2}
pixels = arrays(np.float32, (2, 3, 2), elements=st.floats(0, 1, width=32))
anything = arrays(np.float32, (2, 3, 2), elements=st.floats(-1e6, 1e6, width=32))
# 1e-9 is far below half a float32 step of any pixel above 1e-2; near 1e-38 float32 itself has no 1e-5 left.
budgets = st.one_of(st.just(0.0), st.floats(1e-9, 1e-4), st.floats(1e-4, 1))


def sizes(delta, norm):
    return np.linalg.norm(delta.astype(np.float64).reshape(len(delta), -1), ORDERS[norm], axis=1)


@pytest.mark.parametrize("norm", ORDERS)
@given(images=pixels, points=anything, epsilon=budgets)
@settings(max_examples=200, deadline=None)
def test_contained_points_lie_in_the_ball_and_the_box(norm, images, points, epsilon):
    contained = contain(torch.tensor(points), torch.tensor(images), epsilon, NORMS[norm]).numpy()
    assert contained.min() >= 0
    assert contained.max() <= 1
    assert (sizes(contained.astype(np.float64) - images, norm) <= epsilon * (1 + 1e-5)).all()


@pytest.mark.parametrize("norm", ORDERS)
@given(images=pixels, noise=anything, epsilon=st.floats(0.01, 1))
@settings(max_examples=100, deadline=None)
def test_points_inside_stay_where_they_are(norm, images, noise, epsilon):
    scale = np.maximum(sizes(noise, norm), 1e-12).reshape(-1, 1, 1)
    points = np.clip(images + 0.99 * epsilon * noise / scale, 0, 1).astype(np.float32)
    contained = contain(torch.tensor(points), torch.tensor(images), epsilon, NORMS[norm]).numpy()
    np.testing.assert_allclose(contained, points, atol=2e-7)


@pytest.mark.parametrize("norm", ORDERS)
def test_points_outside_move_to_the_surface(norm):
    points = 0.5 + torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    images = torch.full((4, 10), 0.5)
    contained = contain(points, images, 0.1, NORMS[norm])
    np.testing.assert_allclose(sizes((contained - images).numpy(), norm), 0.1, rtol=1e-5)


@pytest.mark.parametrize("norm", ORDERS)
@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1.0, 1e20])
def test_the_steepest_direction_has_norm_one_and_the_dual_gain(norm, scale):
    gradient = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0)) * scale
    direction = NORMS[norm].steepest(gradient)
    np.testing.assert_allclose(sizes(direction.numpy(), norm), 1, rtol=1e-5)
    gain = (direction.double() * gradient.double()).flatten(1).sum(1)
    dual = {"linf": 1, "l2": 2}[norm]
    np.testing.assert_allclose(gain, np.linalg.norm(gradient.double().flatten(1).numpy(), dual, axis=1), rtol=1e-5)


@pytest.mark.parametrize("norm", ORDERS)
def test_no_gradient_no_direction(norm):
    assert torch.equal(NORMS[norm].steepest(torch.zeros(2, 3)), torch.zeros(2, 3))


@pytest.mark.parametrize("epsilon", [1e-9, 1 / 255, 0.3, 1.0])
def test_a_problem_moves_points_to_where_they_are_contained(epsilon, network, test_images, test_labels, register):
    images, largest = test_images[:8].float(), float(np.float32(epsilon))
    tried = []

    def attack(problem):
        for rows in (None, torch.tensor([5, 2]), torch.tensor([5, 3])):
            there = images if rows is None else images[rows]
            for scale in (0.5, 5.0):
                points = there + scale * epsilon * torch.randn(there.shape, generator=torch.Generator().manual_seed(0))
                moved = problem.project(points, rows)
                torch.testing.assert_close(moved, contain(points, there, epsilon, NORMS["linf"]), rtol=0, atol=1.2e-7)
                assert ((moved.double() - there.double()).abs() <= largest).all()
                assert torch.equal(problem.project(moved, rows), moved)
                tried.append(rows)

    register("checks-projection", attack)
    run_attack(network, images, test_labels[:8], "checks-projection", epsilon=epsilon)
    assert len(tried) == 6
