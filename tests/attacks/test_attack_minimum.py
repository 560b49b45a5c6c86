"""Minimum-norm attacks against closed forms, exact solvers and foolbox; and what one run says of every budget."""

import numpy as np
import pytest
import torch
from extras import needs
from scipy.optimize import brentq, linprog
from test_attack_optimum import distance, linear_problem
from torch import nn

from robustprune.attacks import Attack, run_attack, security_curve, union_attack
from robustprune.attacks.norms import NORMS
from robustprune.errors import AttackError

IN_ITS_NORM = [("ddn", "l2"), ("fmn", "linf"), ("fmn", "l2"), ("fmn", "l1"), ("fmn", "l0"), ("sigma-zero", "l0")]
ORDERS = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}
FEW = {"steps": 30}


def norms_of(delta, norm):
    return np.linalg.norm(delta.double().flatten(1).numpy(), ORDERS[norm], axis=1)


@pytest.mark.parametrize(("attack", "norm"), [each for each in IN_ITS_NORM if each[1] != "l0"])
@pytest.mark.parametrize("shape", [(12,), (3, 4, 2)])
def test_the_distance_to_a_hyperplane_is_found(attack, norm, shape):
    model, images, labels = linear_problem(shape)
    closest = distance(model, norm)
    result = run_attack(model, images, labels, attack, norm=norm)
    assert result.valid
    assert result.robust_accuracy == 0
    assert (result.distances >= closest * (1 - 1e-5)).all()
    assert (result.distances <= closest * 1.02).all()


class Classes(nn.Module):
    def __init__(self, weights, biases):
        super().__init__()
        self.weights, self.biases = nn.Parameter(weights), nn.Parameter(biases)

    def forward(self, images):
        return images.flatten(1) @ self.weights.T + self.biases


def corner_problem(classes, n=6, entries=24):
    """Return a linear model and images near the walls of the box."""
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(classes, entries, generator=generator)
    images = torch.rand(n, entries, generator=generator).mul(1.6).sub(0.3).clamp(0, 1)
    model = Classes(weights, -0.5 * weights.sum(1))
    return model, images, model(images).argmax(1)


def exact(image, weight, needed, norm):
    """Return the norm of the least δ with weight·δ = needed > 0 and image + δ in the box; inf where there is none."""
    low, high = -image, 1 - image
    gains = np.maximum(weight * low, weight * high)
    if gains.sum() <= needed:
        return np.inf
    if norm == "l0":
        return 1 + int((np.cumsum(np.sort(gains)[::-1]) < needed).sum())
    if norm == "l2":  # what holds at the least: δ = t·weight, but for entries that stand at a wall
        t = brentq(lambda t: weight @ np.clip(t * weight, low, high) - needed, 0, 1e4)
        return float(np.linalg.norm(np.clip(t * weight, low, high)))
    d = len(weight)
    if norm == "linf":  # the least t with −t ≤ δ ≤ t
        bounds = np.block([[np.eye(d), -np.ones((d, 1))], [-np.eye(d), -np.ones((d, 1))]])
        cost, limits = np.append(np.zeros(d), 1), [*zip(low, high, strict=True), (0, None)]
        found = linprog(cost, bounds, np.zeros(2 * d), np.append(weight, 0)[None], [needed], limits)
    else:  # δ is the difference of two vectors of no negative entry
        limits = [*((0, each) for each in high), *((0, -each) for each in low)]
        found = linprog(np.ones(2 * d), A_eq=np.append(weight, -weight)[None], b_eq=[needed], bounds=limits)
    return found.fun if found.success else np.inf


def exact_distances(model, images, labels, norm):
    weights, logits = (each.detach().double().numpy() for each in (model.weights, model(images)))
    pixels = images.double().numpy()
    return np.array(
        [
            min(
                exact(pixels[i], weights[other] - weights[label], logits[i, label] - logits[i, other], norm)
                for other in range(len(weights))
                if other != label
            )
            for i, label in enumerate(labels.tolist())
        ]
    )


# Of several classes, an attack may head for one that is not the nearest, and cross-entropy for a mixture of them.
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(("attack", "norm"), IN_ITS_NORM)
def test_the_distance_within_the_box_is_found(attack, norm, classes):
    model, images, labels = corner_problem(classes)
    closest = exact_distances(model, images, labels, norm)
    result = run_attack(model, images, labels, attack, norm=norm, steps=100)
    assert result.valid
    found = result.distances.numpy()
    assert (found >= closest * (1 - 1e-4)).all()
    assert (found <= (closest + 1 if norm == "l0" else closest * (1.02 if classes == 2 else 1.15))).all()


def smooth_network():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(1, 6, 3), nn.Tanh(), nn.Conv2d(6, 6, 3), nn.SiLU(), nn.Flatten(), nn.Linear(96, 10)
        ).requires_grad_(False)


# foolbox's FMN in L2 stays in no ball, and in L1 it fails on many samples.
@pytest.mark.parametrize(
    ("which", "attack", "norm", "peer"),
    [
        ("trained", "ddn", "l2", "DDNAttack"),
        ("smooth", "ddn", "l2", "DDNAttack"),
        ("trained", "fmn", "linf", "LInfFMNAttack"),
    ],
)
def test_it_comes_as_near_as_that_of_foolbox(network, test_images, which, attack, norm, peer):
    foolbox = needs("foolbox")
    network = network if which == "trained" else smooth_network().eval()
    images = test_images[:16]
    labels = network(images).argmax(1)
    theirs = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    _, adversarial, success = getattr(foolbox.attacks, peer)(steps=100)(theirs, images, labels, epsilons=None)
    expected = norms_of(adversarial - images, norm)
    result = run_attack(network, images, labels, attack, norm=norm, steps=100)
    assert success.all()
    assert abs(result.distances.mean() / expected.mean() - 1) <= 0.02


@pytest.mark.parametrize(("attack", "norm"), IN_ITS_NORM)
def test_a_distance_is_that_of_an_image_the_network_misclassifies(network, test_images, test_labels, attack, norm):
    images, labels = test_images[:30], test_labels[:30]
    result = run_attack(network, images, labels, attack, norm=norm, **FEW)
    assert result.valid
    assert result.epsilon == NORMS[norm].widest(64)
    assert bool(result.broken.all())
    assert result.adversarial.min() >= 0
    assert result.adversarial.max() <= 1
    assert bool((network(result.adversarial).argmax(1) != labels).all())
    np.testing.assert_allclose(norms_of(result.adversarial - images, norm), result.distances, rtol=1e-6)
    wrong = network(images).argmax(1) != labels
    assert torch.equal(result.distances == 0, wrong)
    assert torch.equal(result.broken_at_step == 0, wrong)
    # The network never disagrees with its frozen copy, which would have samples attacked once more.
    assert torch.equal(result.queries, torch.where(wrong, 0, FEW["steps"] + 1))


@pytest.mark.parametrize(("attack", "norm"), [("fmn", "linf"), ("ddn", "l2"), ("fmn", "l0")])
def test_one_run_says_how_many_withstand_any_budget(network, test_images, test_labels, attack, norm):
    images, labels = test_images[:40], test_labels[:40]
    whole = run_attack(network, images, labels, attack, norm=norm, **FEW)
    epsilons = sorted({float(whole.distances.sort().values[rank]) for rank in (8, 20, 36)})
    curve = security_curve(network, images, labels, attack, epsilons=epsilons, norm=norm, **FEW)
    assert curve.epsilons == epsilons
    for result in curve.results:
        assert result.valid
        assert torch.equal(result.distances, whole.distances)
        assert torch.equal(result.broken, whole.distances <= result.epsilon)
        assert torch.equal(network(result.adversarial).argmax(1) != labels, result.broken)
        assert torch.equal(result.adversarial[~result.broken], images[~result.broken])
        alone = run_attack(network, images, labels, attack, norm=norm, epsilon=result.epsilon, **FEW)
        for name in ("adversarial", "broken", "broken_at_step", "adversarial_predictions", "perturbation_norms"):
            assert torch.equal(getattr(result, name), getattr(alone, name)), name
        assert (result.broken_by, result.checks) == (alone.broken_by, alone.checks)
    assert sum(result.gradient_evaluations for result in curve.results) == whole.gradient_evaluations
    assert torch.equal(curve.minimal_epsilon, whole.distances)
    assert curve.median_minimal_epsilon == float(whole.distances.sort().values[20])


@pytest.mark.slow
def test_full_checks_are_made_at_each_budget(network, test_images, test_labels, verdict):
    curve = security_curve(
        network, test_images[:20], test_labels[:20], "fmn", epsilons=[0.3, 0.8], norm="l2", steps=15, checks="full"
    )
    for result in curve.results:
        assert {verdict(result, name) for name in ("no budget", "large budget", "monotone")} == {"PASS"}
    counts = run_attack(
        network, test_images[:20], test_labels[:20], "fmn", norm="l0", epsilon=5, steps=5, checks="full"
    )
    assert verdict(counts, "large budget") == verdict(counts, "monotone") == "PASS"
    assert "strength order" not in {check.name for check in counts.checks}


def test_neither_batches_nor_early_stopping_nor_the_seed_change_what_is_found(network, test_images, test_labels):
    images, labels = test_images[:30], test_labels[:30]
    asked = {"attack": "fmn", "norm": "l2", "steps": 20}
    whole = run_attack(network, images, labels, **asked)
    for settings in ({"batch_size": 7}, {"early_stop": False, "seed": 5}, {"selection": "last"}, {"frozen": False}):
        found = run_attack(network, images, labels, **asked, **settings)
        torch.testing.assert_close(found.distances, whole.distances, rtol=0.01, atol=1e-5)
    assert torch.equal(run_attack(network, images, labels, **asked).distances, whole.distances)


@pytest.mark.parametrize(("attack", "norm"), IN_ITS_NORM)
def test_restarts_only_come_nearer_and_depend_on_the_seed(network, test_images, test_labels, attack, norm):
    images, labels = test_images[:20], test_labels[:20]
    asked = {"attack": attack, "norm": norm, "steps": 8}
    one = run_attack(network, images, labels, **asked)
    # Several seeds: now and then another restart finds the same size but for rounding.
    found = [run_attack(network, images, labels, restarts=2, seed=seed, **asked) for seed in range(6)]
    distances = torch.stack([two.distances for two in found])
    assert (distances <= one.distances).all()
    assert distances.mean() < one.distances.mean()
    again = run_attack(network, images, labels, restarts=2, **asked)
    assert torch.equal(again.adversarial, found[0].adversarial)
    assert not torch.equal(found[1].adversarial, found[0].adversarial)


def test_a_target_is_no_nearer_than_any_class(network, test_images, test_labels):
    images, labels = test_images[:20], test_labels[:20]
    targets = (labels + 1) % 10
    asked = {"attack": "fmn", "norm": "l2", "steps": 60}
    anywhere, there = (run_attack(network, images, labels, targets=each, **asked) for each in (None, targets))
    assert there.broken.all()
    assert torch.equal(network(there.adversarial).argmax(1), targets)
    assert (there.distances >= anywhere.distances * 0.98)[anywhere.distances > 0].all()


def test_what_an_earlier_attack_broke_is_not_attacked_again(network, test_images, test_labels):
    images, labels = test_images[:40], test_labels[:40]
    asked = {"epsilon": 0.06, "steps": 5}
    first = run_attack(network, images, labels, "pgd", **asked)
    second = run_attack(network, images, labels, "fmn", previous=first, **asked)
    assert 0 < first.broken.sum() < 40
    assert torch.equal(second.queries[first.broken], first.queries[first.broken])
    assert torch.equal(second.adversarial[first.broken], first.adversarial[first.broken])
    assert set(second.broken_by) <= {"", "clean", "pgd", "fmn"}
    in_l2 = {"norm": "l2", "epsilon": 0.4, "steps": 5}  # norms of which may come out larger by rounding
    first = run_attack(network, images, labels, "pgd", **in_l2)
    assert (run_attack(network, images, labels, "fmn", previous=first, **in_l2).broken >= first.broken).all()
    together = union_attack(network, images, labels, ["fmn", "pgd"], **asked)
    assert torch.equal(together.broken, second.broken)
    assert together.distances is None
    with pytest.raises(AttackError, match="not within"):
        run_attack(network, images, labels, "fmn", previous=second, epsilon=0.03)


def test_any_attack_keeps_the_nearest_of_its_points(network, test_images, test_labels):
    images, labels = test_images[:30], test_labels[:30]
    asked = {"attack": "pgd", "epsilon": 0.3, "steps": 10, "early_stop": False}
    nearest, best = (run_attack(network, images, labels, selection=each, **asked) for each in ("nearest", "best"))
    assert torch.equal(nearest.broken, best.broken)
    assert (nearest.distances <= best.perturbation_norms.where(best.broken, torch.inf)).all()
    assert nearest.distances.mean() < best.perturbation_norms.mean()
    assert best.distances is None


@pytest.mark.parametrize(
    ("attack", "settings", "message"),
    [
        ("fmn", {"eot": 4}, "'fmn' looks for the nearest points, .* leave eot at 1"),
        ("fmn", {"gamma": 1.0}, "gamma must lie between 0 and 1"),
        ("fmn", {"max_stepsize": 0.1, "min_stepsize": 1.0}, "falls from max_stepsize to min_stepsize"),
        ("fmn", {"gamma": "half"}, "gamma must lie between 0 and 1, got 'half'"),
        ("fmn", {"max_stepsize": "1e"}, "max_stepsize must be a finite number above 0, got '1e'"),
        ("fmn", {"min_stepsize": float("nan")}, "min_stepsize must be a finite number above 0, got nan"),
        ("ddn", {"norm": "l2", "init_norm": 0}, "init_norm must be a finite number above 0, got 0"),
        ("sigma-zero", {"norm": "l0", "threshold": True}, "threshold must be a finite number above 0, got True"),
        ("ddn", {}, "'ddn' is for l2; in linf, attack with 'pgd' or 'fab-t'"),
        ("sigma-zero", {"norm": "l0", "sigma": -1}, "sigma must be a finite number above 0"),
        ("fmn", {"norm": "l0", "epsilon": "8/255"}, "how many entries of an image may change"),
        ("pgd", {"norm": "l0"}, "'pgd' is for linf, l2 and l1; in l0, attack with 'fmn' or 'sigma-zero'"),
    ],
)
def test_what_makes_no_sense_is_refused(network, test_images, test_labels, attack, settings, message):
    with pytest.raises(AttackError, match=message):
        run_attack(network, test_images[:2], test_labels[:2], attack, **settings)


@pytest.mark.parametrize("norm", NORMS)
def test_each_sample_is_projected_onto_a_ball_of_its_own(norm):
    delta = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    radii = torch.tensor([0.3, 1.0, 2.0, 5.0, torch.inf])
    together = NORMS[norm].project(delta, radii)
    for number in range(4):
        alone = NORMS[norm].project(delta[number : number + 1], float(radii[number]))
        torch.testing.assert_close(together[number : number + 1], alone)
    assert torch.equal(together[4], delta[4])
    assert (NORMS[norm].size(together) <= radii * (1 + 1e-5)).all()


def test_the_projection_of_counts_keeps_the_largest_entries():
    delta = torch.tensor([[3.0, -5.0, 0.0, 4.0], [1.0, 1.0, -1.0, 0.5]])
    kept = torch.tensor([[0.0, -5.0, 0.0, 4.0], [1.0, 1.0, 0.0, 0.0]])
    assert torch.equal(NORMS["l0"].project(delta, 2.0), kept)
    assert NORMS["l0"].size(kept).tolist() == [2, 2]
    assert Attack("fmn", norm="l0").epsilon == 24
    drawn = NORMS["l0"].draw(torch.Generator().manual_seed(0), torch.Size([4, 5]), 7.0)
    assert int((drawn != 0).sum()) == 7
