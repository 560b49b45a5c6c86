"""Attacks of other packages, under the engine's guards and counting."""

import pytest
import torch
from extras import needs
from torch import nn

from robustprune.attacks import attack_options, run_attack
from robustprune.attacks.engine.third_party import known_attacks
from robustprune.attacks.registry import ENGINE_OPTIONS, expand_options
from robustprune.errors import AttackError

torchattacks, _foolbox = needs("torchattacks"), needs("foolbox")
EPSILON = 0.08


@pytest.mark.quick_cases(5)
@pytest.mark.parametrize(
    ("name", "norm", "options"),
    [
        ("torchattacks:PGD", "linf", {"steps": 5}),
        ("torchattacks:PGDL2", "l2", {"steps": 5}),
        ("torchattacks:CW", "l2", {"steps": 10}),
        ("torchattacks:DeepFool", "l2", {"steps": 10}),
        ("torchattacks:MIFGSM", "linf", {"steps": 5}),
        ("torchattacks:OnePixel", "linf", {"steps": 1, "popsize": 4}),
        ("torchattacks:APGD", "l2", {"steps": 5, "n_restarts": 1}),
        ("torchattacks:Square", "linf", {"n_queries": 20}),
        ("torchattacks:Pixle", "l1", {"own_restarts": 2, "max_iterations": 2}),
        ("foolbox:LinfPGD", "linf", {"steps": 5}),
        ("foolbox:L2DeepFoolAttack", "l2", {}),
        ("foolbox:InversionAttack", "l1", {}),
    ],
)
def test_whatever_they_return_is_contained_and_judged(network, test_images, test_labels, name, norm, options):
    images, labels = test_images[:40], test_labels[:40]
    before = [parameter.clone() for parameter in network.parameters()]
    state = torch.get_rng_state()
    result = run_attack(network, images, labels, name, epsilon=EPSILON, norm=norm, **options)
    assert result.valid
    assert (result.perturbation_norms <= EPSILON * (1 + 1e-5)).all()
    with torch.no_grad():
        assert torch.equal(network(result.adversarial).argmax(1) != labels, result.broken)
    assert all(torch.equal(now, was) for now, was in zip(network.parameters(), before, strict=True))
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert set(result.broken_by) <= {"", "clean", name}


def test_passes_and_gradients_are_counted(network, test_images, test_labels):
    labels = network(test_images[:40]).argmax(1)
    result = run_attack(network, test_images[:40], labels, "torchattacks:PGD", steps=7, random_start=False)
    assert result.gradient_evaluations == 7 * 40
    # Beside the steps: clean, our look at the proposals, the verdict, and the checks' probes.
    assert result.forward_evaluations == (7 + 3) * 40 + 5 * 16 + 2 * 2


def test_the_outcome_is_the_packages_own(network, test_images, test_labels):
    labels = network(test_images[:40]).argmax(1)
    expected = torchattacks.PGD(network, eps=0.05, alpha=0.01, steps=7, random_start=False)(test_images[:40], labels)
    result = run_attack(
        network, test_images[:40], labels, "torchattacks:PGD", epsilon=0.05, alpha=0.01, steps=7, random_start=False
    )
    expected_broken = network(expected).argmax(1) != labels
    assert int((result.broken != expected_broken).sum()) <= 1
    assert result.broken.any()


def test_targets_are_handed_on(network, test_images, test_labels):
    labels = network(test_images[:60]).argmax(1)
    settings = {"targets": (labels + 1) % 10, "epsilon": 0.3}
    for name in ("torchattacks:PGD", "foolbox:LinfPGD", "pgd"):
        result = run_attack(network, test_images[:60], labels, name, steps=20, **settings)
        assert torch.equal(result.broken, result.adversarial_predictions == settings["targets"])
        assert result.robust_accuracy < 0.7


def test_options_are_those_of_the_constructor():
    assert attack_options("torchattacks:CW") == {"c": 1, "kappa": 0, "steps": 50, "lr": 0.01}


def test_no_option_of_theirs_bears_a_name_of_run_attack():
    """Norm, seed, budget and classes follow from what is attacked; the others go by their name after ``own_``."""
    for name in known_attacks():
        if name not in ("torchattacks:LGV", "torchattacks:MultiAttack"):
            options = attack_options(name)
            assert not set(options) & {*ENGINE_OPTIONS, "eps", "max_epsilon", "n_classes", "distance", "model"}, name
    assert attack_options("torchattacks:Pixle")["own_restarts"] == 20
    assert attack_options("torchattacks:APGD") == {
        "steps": 10, "n_restarts": 1, "loss": "ce", "eot_iter": 1, "rho": 0.75, "verbose": False
    }  # fmt: skip
    with pytest.raises(AttackError, match=r"takes no option 'own_restart'.*Did you mean 'own_restarts'"):
        expand_options("torchattacks:Pixle", {"own_restart": 2})


@pytest.mark.parametrize(("norm", "theirs"), [("linf", "Linf"), ("l2", "L2")])
def test_what_follows_from_the_attack_is_handed_on(network, test_images, test_labels, monkeypatch, norm, theirs):
    given = []

    class Recording(torchattacks.APGD):
        """Distance Measure : Linf, L2."""

        def __init__(self, model, norm="Linf", eps=8 / 255, steps=10, seed=0, n_classes=10):
            given.append((norm, eps, seed, n_classes))
            super().__init__(model, norm=norm, eps=eps, steps=steps, seed=seed)

    monkeypatch.setattr(torchattacks, "Recording", Recording, raising=False)
    settings = {"attack": "torchattacks:Recording", "norm": norm, "epsilon": 0.03, "steps": 2}
    for seed in (1, 1, 2):
        run_attack(network, test_images[:4], test_labels[:4], seed=seed, **settings)
    assert [each[:2] + each[3:] for each in given] == [(theirs, 0.03, 10)] * 3
    assert given[0][2] == given[1][2] != given[2][2]


def test_an_attack_of_targets_tries_the_classes_that_there_are(test_images):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).eval()
    labels = network(test_images[:20]).argmax(1)
    for name in ("APGDT", "FAB", "AutoAttack"):
        result = run_attack(network, test_images[:20], labels, f"torchattacks:{name}", epsilon=0.3)
        assert (
            result.robust_accuracy <= run_attack(network, test_images[:20], labels, "pgd", epsilon=0.3).robust_accuracy
        )


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("torchattacks:PDG", "torchattacks has no attack 'PDG'. Did you mean 'PGD'"),
        ("torchattacks", "say which, such as torchattacks:PGD"),
        ("foolbox:Nothing", "foolbox has no attack 'Nothing'"),
        ("foolbox:Attack", "foolbox has no attack 'Attack'"),
        ("torchattacks:Attack", "torchattacks has no attack 'Attack'"),
        ("torchattacks:MultiAttack", "made of other attacks"),
        ("torchattacks:LGV", "made of other attacks, or of training images"),
    ],
)
def test_names_that_do_not_exist(network, test_images, test_labels, name, complaint):
    with pytest.raises(AttackError, match=complaint):
        run_attack(network, test_images, test_labels, name)


def test_options_that_do_not_exist(network, test_images, test_labels):
    with pytest.raises(AttackError, match=r"takes no option 'step'.*Did you mean 'steps'"):
        run_attack(network, test_images, test_labels, "torchattacks:PGD", step=3)


@pytest.mark.parametrize("name", ["torchattacks:PGD", "foolbox:LinfPGD"])
def test_the_size_of_batches_changes_nothing(network, test_images, test_labels, name):
    settings = {"attack": name, "epsilon": 0.05, "steps": 4, "seed": 2}
    expected = run_attack(network, test_images, test_labels, **settings)
    assert expected.options["samples_together"] == 64
    for batch_size in (64, 100, 300):
        found = run_attack(network, test_images, test_labels, batch_size=batch_size, **settings)
        assert torch.equal(found.broken, expected.broken)
        assert (found.adversarial - expected.adversarial).abs().max() < 1e-6
    small = run_attack(network, test_images, test_labels, batch_size=40, **settings)
    assert small.options["samples_together"] == 40
    assert small.valid
