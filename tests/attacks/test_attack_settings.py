"""What cannot be meant is refused in words that help."""

import inspect
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from robustprune.attacks import ATTACKS, Attack, attack_options, fgsm, parse_epsilon, pgd, register_attack, run_attack
from robustprune.attacks.ddn import attack as ddn
from robustprune.attacks.losses import LOSSES
from robustprune.attacks.registry import ENGINE_OPTIONS
from robustprune.attacks.requests import Attacks
from robustprune.errors import AttackError, ModelError, UnknownNameError
from robustprune.registry import with_options


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.03, 0.03),
        (0, 0),
        (1, 1),
        ("8/255", 8 / 255),
        (" 8 / 255 ", 8 / 255),
        ("0.5/255", 0.5 / 255),
        (".1", 0.1),
        ("1e-3", 1e-3),
        (Fraction(8, 255), 8 / 255),
        (np.float32(0.5), 0.5),
    ],
)
def test_epsilon_is_a_number_or_a_fraction(value, expected):
    assert parse_epsilon(value) == expected


@pytest.mark.parametrize(
    "value",
    ["", "eight", "8/", "/255", "1/0", "8/255/2", -0.1, "-8/255", "nan", float("inf"), None, True, [0.1]],
)
def test_epsilon_that_is_neither_is_refused(value):
    with pytest.raises(AttackError, match="epsilon"):
        parse_epsilon(value)


def test_epsilon_above_the_range_of_a_pixel_is_a_forgotten_division():
    with pytest.raises(AttackError, match=r"forgot /255\? Write 8/255"):
        parse_epsilon("8")
    assert parse_epsilon("8", norm="l2") == 8


@pytest.mark.parametrize(("norm", "usual"), [("linf", 8 / 255), ("l2", 0.5), ("l1", 12.0)])  # RobustBench's, CIFAR-10
def test_the_budget_that_nobody_gave_is_the_usual_one_of_the_norm(norm, usual):
    assert Attack(norm=norm).epsilon == usual
    assert Attacks("pgd", norm=norm).epsilons == (usual,)
    assert Attacks.of(Attacks("pgd"), norm=norm).epsilons == (usual,)
    assert Attacks.of(Attacks("pgd", epsilons=0.25), norm=norm).epsilons == (0.25,)
    images = torch.full((1, 1, 4, 4), 0.5)
    assert run_attack(nn.Flatten(), images, torch.tensor([0]), "noise", norm=norm).epsilon == usual


@pytest.mark.parametrize(
    ("attack", "options", "complaint"),
    [
        (
            "pgd",
            {"stepz": 3},
            r"no option 'stepz'\. Did you mean 'steps'.*steps, step_size, random_start, loss",
        ),
        ("pgd", {"epsilom": 0.1}, "Did you mean 'epsilon'"),
        ("fgsm", {"steps": 3}, "'fgsm' takes no option 'steps'.*It takes: loss"),
        ("pgd", {"steps": 0}, "steps must be an integer of at least 1"),
        ("pgd", {"steps": 2.5}, "steps"),
        ("pgd", {"steps": True}, "steps"),
        ("pgd", {"step_size": 0}, "step_size"),
        ("pgd", {"step_size": -0.1}, "step_size"),
        ("pgd", {"step_size": float("nan")}, "step_size"),
        ("pgd", {"step_size": "2 pixels"}, "step_size"),
        ("pgd", {"loss": "cee"}, "no loss called 'cee'.*Did you mean 'ce'"),
        ("fgsm", {"loss": "hinge"}, "Known: ce, margin, dlr"),
        ("pgd", {"restarts": 0}, "restarts"),
        ("pgd", {"batch_size": 0}, "batch_size"),
        ("pgd", {"norm": "l3"}, "no norm called 'l3'.*Known: linf, l2"),
        ("pgd", {"norm": None}, "no norm called None"),
        ("pgd", {"epsilon": 8}, "forgot /255"),
        ("pgd", {"seed": 0.5}, "seed"),
        ("pgd", {"selection": "first"}, "'best', 'last' or 'nearest'"),
        ("pgd", {"sample_ids": [1, 2]}, "sample ids"),
        ("pgd:40", {}, "no argument after a colon"),
    ],
)
@pytest.mark.parametrize("epsilon", [0.05, 0])
def test_options_that_make_no_sense(network, test_images, test_labels, attack, options, complaint, epsilon):
    with pytest.raises(AttackError, match=complaint):
        run_attack(network, test_images, test_labels, attack, **{"epsilon": epsilon, **options})


def test_unknown_attack(network, test_images, test_labels):
    with pytest.raises(UnknownNameError, match="Did you mean 'fgsm'"):
        run_attack(network, test_images, test_labels, "fgsn")


def replaced(images, value):
    images[5, 0, 2, 2] = value
    return images


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda images, labels: (images * 255, labels), "Divide by 255"),
        (lambda images, labels: (images * 2 - 1, labels), "run from -1 to 1"),
        (lambda images, labels: (replaced(images, torch.nan), labels), "nan"),
        (lambda images, labels: (images.long(), labels), "int64"),
        (lambda images, labels: (images[:0], labels[:0]), "N ≥ 1"),
        (lambda images, labels: (images[0, 0, 0], labels), "batch of images"),
        (lambda images, labels: (images, labels[:-1]), "300 integer labels"),
        (lambda images, labels: (images, labels.float()), "integer labels"),
        (lambda images, labels: (images, labels + 1), "from 1 to 10, the model has 10"),
        (lambda images, labels: (images, labels - 1), "from -1"),
    ],
)
def test_samples_that_make_no_sense(network, test_images, test_labels, change, complaint):
    with pytest.raises(AttackError, match=complaint):
        run_attack(network, *change(test_images, test_labels), epsilon=0.05)


def test_images_of_another_shape_than_the_models(network, test_labels):
    with pytest.raises(ModelError, match=r"\(256, 1, 9, 9\)"):
        run_attack(network, torch.rand(300, 1, 9, 9), test_labels)


def test_the_ratio_loss_needs_three_classes():
    model = torch.nn.Linear(4, 2)
    images, labels = torch.rand(6, 4), torch.zeros(6, dtype=torch.long)
    with torch.no_grad():
        labels = model(images).argmax(1)
    with pytest.raises(AttackError, match="at least 3 classes"):
        run_attack(model, images, labels, loss="dlr", epsilon=0.1)


def test_what_the_built_in_attacks_take():
    assert attack_options("fgsm") == {"loss": "ce"}
    assert attack_options("pgd") == {"steps": 20, "step_size": None, "random_start": True, "loss": "ce"}
    assert {"fgsm", "pgd"} <= set(ATTACKS.names())


def test_an_attack_cannot_have_an_option_of_the_engines(monkeypatch):
    monkeypatch.setitem(ATTACKS._registered, "greedy", lambda problem, *, seed=3: None)
    with pytest.raises(AttackError, match="'seed', which belongs to run_attack"):
        attack_options("greedy")


def test_an_option_without_default_must_be_given(network, test_images, test_labels, monkeypatch):
    def patch(problem, *, side):
        problem.evaluate(problem.images)

    monkeypatch.setitem(ATTACKS._registered, "patch", patch)
    with pytest.raises(AttackError, match="needs a value for side"):
        run_attack(network, test_images, test_labels, "patch")
    assert run_attack(network, test_images, test_labels, "patch", side=3).options["side"] == 3


def test_the_functions_are_the_engine_with_the_images_only(network, test_images, test_labels):
    for function, name in ((fgsm, "fgsm"), (pgd, "pgd")):
        images = function(network, test_images, test_labels, epsilon="0.05")
        assert torch.equal(images, run_attack(network, test_images, test_labels, name, epsilon=0.05).adversarial)


def test_losses_by_hand():
    logits = torch.tensor([[3.0, 1.0, 0.0, -1.0], [0.0, 2.0, 5.0, 1.0]])
    labels = torch.tensor([0, 1])
    assert LOSSES["margin"](logits, labels).tolist() == [-2, 3]
    assert LOSSES["dlr"](logits, labels).tolist() == pytest.approx([-2 / 3, 3 / 4])
    shares = logits.double().exp() / logits.double().exp().sum(1, keepdim=True)
    expected = [-float(shares[0, 0].log()), -float(shares[1, 1].log())]
    assert LOSSES["ce"](logits, labels).tolist() == pytest.approx(expected, rel=1e-6)


def test_a_loss_over_the_batch_is_refused(network, test_images, test_labels):
    with pytest.raises(AttackError, match="one number per sample"):
        run_attack(network, test_images, test_labels, epsilon=0.05, loss=torch.nn.functional.cross_entropy)


def test_a_loss_may_be_a_function(network, test_images, test_labels):
    named = run_attack(network, test_images, test_labels, epsilon=0.05, steps=3, loss="margin")
    given = run_attack(network, test_images, test_labels, epsilon=0.05, steps=3, loss=LOSSES["margin"])
    assert torch.equal(named.adversarial, given.adversarial)


def test_a_part_that_does_not_know_the_norm_is_refused(network, test_images, test_labels):
    def whole(problem):
        problem.run_stage("search", ddn)

    try:
        register_attack("whole")(whole)
        with pytest.raises(AttackError, match="'search' is for l2"):
            run_attack(network, test_images[:5], test_labels[:5], "whole", norm="l1", epsilon=4)
    finally:
        del ATTACKS._registered["whole"]


def test_no_option_of_an_attack_has_a_name_that_the_engine_takes():
    parameters = inspect.signature(run_attack).parameters.values()
    assert {each.name for each in parameters if each.kind is each.KEYWORD_ONLY} < set(ENGINE_OPTIONS)
    assert set(Attack.model_fields) < set(ENGINE_OPTIONS)


def test_options_and_settings_may_be_written_behind_a_name():
    written = Attack("pgd:steps=40,restarts=3,loss=margin", loss="ce", epsilon="2/255")
    assert dict(written) == dict(
        Attack("pgd", steps=40, restarts=3, loss="margin", epsilon="2/255", label="pgd:steps=40,restarts=3,loss=margin")
    )
    assert Attack("pgd").label == Attack().label == "pgd"


@pytest.mark.parametrize("name", list(ATTACKS.builtin))
def test_every_option_of_every_attack_can_be_written(name):
    defaults = {key: value for key, value in ATTACKS.builtin[name].options.items() if value is not None}
    assert Attack(with_options(name, defaults)).options == defaults


def test_what_is_written_behind_a_name_is_what_a_keyword_is(network, test_images, test_labels):
    shown = network, test_images[:20], test_labels[:20]
    written = run_attack(*shown, "pgd:steps=2,loss=margin", epsilon=0.1)
    given = run_attack(*shown, "pgd", steps=2, loss="margin", epsilon=0.1)
    assert torch.equal(written.adversarial, given.adversarial)
    assert written.options == given.options
    assert (written.attack, given.attack) == ("pgd:steps=2,loss=margin", "pgd")
    assert set(written.broken_by) <= {"", "clean", written.attack}
