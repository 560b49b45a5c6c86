"""In which norm the attacks of other packages work, and what becomes of them in another."""

import pytest
import torch
from extras import needs
from torch import nn

from robustprune.attacks import attack_options, run_attack
from robustprune.attacks.engine.full_checks import check_single_step
from robustprune.attacks.engine.third_party import known_attacks
from robustprune.attacks.registry import check_norm, get_attack, knows_norm
from robustprune.errors import AttackError, RobustPruneError

torchattacks, _foolbox = needs("torchattacks"), needs("foolbox")
Attack = torchattacks.attack.Attack
WRAPPERS = ("torchattacks:LGV", "torchattacks:MultiAttack")
NAMES = [name for name in known_attacks() if name not in WRAPPERS]
# Of those that need neither a bound in a norm of ours nor a norm at all.
NORMLESS = {
    *(f"torchattacks:{name}" for name in ("GN", "JSMA", "OnePixel", "Pixle", "SparseFool", "VANILA")),
    *(f"foolbox:{name}" for name in ("L0BrendelBethgeAttack", "L0FMNAttack", "PointwiseAttack", "SpatialAttack")),
}
BUDGETS = {"linf": 0.06, "l2": 0.5, "l1": 2.5}


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("foolbox")])
def test_foolbox_names_carry_the_norm_that_is_learnt(name):
    """An oracle of their own making: most classes begin with their norm."""
    attack, member = get_attack(name), name.partition(":")[2]
    for prefix, norm in (("linf", "linf"), ("l1", "l1"), ("l2", "l2")):
        if member.lower().startswith(prefix):
            assert attack.norms == (norm,)
    assert hasattr(attack, "norms") != (name in NORMLESS)


class NewL2Attack(Attack):
    """Steps along the gradient, as a release to come may have it.

    Distance Measure : L2
    """

    def __init__(self, model, eps=1.0):
        super().__init__("NewL2Attack", model)
        self.eps = eps

    def forward(self, images, labels):
        images = images.clone().requires_grad_()
        loss = nn.functional.cross_entropy(self.get_logits(images), labels)
        gradient = torch.autograd.grad(loss, images)[0]
        return (images + self.eps * gradient / gradient.view(len(gradient), -1).norm(dim=1).view(-1, 1, 1, 1)).clamp(
            0, 1
        )


def test_one_of_a_release_to_come_is_known_too(network, test_images, test_labels, monkeypatch):
    import foolbox  # once `known_attacks` has, and has passed over its warnings

    untold = type("NewFoolboxAttack", (foolbox.attacks.L1PGD,), {})
    monkeypatch.setattr(torchattacks, "NewL2Attack", NewL2Attack, raising=False)
    monkeypatch.setattr(foolbox.attacks, "NewFoolboxAttack", untold, raising=False)
    for name, norm, others in (
        ("torchattacks:NewL2Attack", "l2", ("linf", "l1")),
        ("foolbox:NewFoolboxAttack", "l1", ("linf", "l2")),
    ):
        for other in others:
            with pytest.raises(AttackError, match=f"{name}' is for {norm}; in {other}, attack with"):
                run_attack(network, test_images, test_labels, name, norm=other)
        result = run_attack(network, test_images[:40], test_labels[:40], name, norm=norm, epsilon=BUDGETS[norm])
        assert "PASS" in [check.verdict for check in result.checks if check.name == "norm"]
        assert result.robust_accuracy < result.clean_accuracy


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("foolbox:L2PGD", "linf"),
        ("foolbox:L1PGD", "l2"),
        ("foolbox:DDNAttack", "linf"),
        ("foolbox:L2RepeatedAdditiveGaussianNoiseAttack", "l1"),
        ("foolbox:HopSkipJumpAttack", "l1"),
        ("torchattacks:PGD", "l2"),
        ("torchattacks:CW", "linf"),
        ("torchattacks:SPSA", "l1"),
        ("torchattacks:AutoAttack", "l1"),
    ],
)
def test_another_norm_is_refused_with_what_to_use(network, test_images, test_labels, name, norm):
    with pytest.raises(AttackError, match=f"'{name}' is for .*; in {norm}, attack with 'pgd' or 'fab-t'"):
        run_attack(network, test_images, test_labels, name, norm=norm)


@pytest.mark.parametrize(
    ("name", "works_in"),
    [
        ("torchattacks:VANILA", "no norm"),
        ("torchattacks:GN", "no norm"),
        ("torchattacks:JSMA", "L0"),
        ("foolbox:L0FMNAttack", "L0"),
        ("foolbox:SpatialAttack", "no norm"),
    ],
)
def test_one_that_works_in_no_norm_is_marked(network, test_images, test_labels, verdict, name, works_in):
    options = {"steps": 5} if works_in == "L0" and name.startswith("foolbox") else {}
    result = run_attack(network, test_images[:20], test_labels[:20], name, epsilon=0.02, **options)
    assert verdict(result, "norm") == "WARN"
    detail = next(check.detail for check in result.checks if check.name == "norm")
    assert detail.startswith(f"the attack works in {works_in}: ")


def test_an_attack_weaker_than_a_step_is_marked(network, test_images, test_labels, verdict):
    settings = {"epsilon": 0.2, "attack": "torchattacks:PGD", "steps": 3}
    weak = run_attack(network, test_images[:60], test_labels[:60], alpha=1e-3, **settings)
    assert verdict(weak, "single step") == "WARN"
    assert weak.valid
    step = run_attack(network, test_images[:60], test_labels[:60], "fgsm", epsilon=0.2)
    detail = next(check.detail for check in weak.checks if check.name == "single step")
    assert detail.startswith(f"a step of FGSM leaves {step.robust_accuracy:.4f}, this {weak.robust_accuracy:.4f}: ")
    strong = run_attack(network, test_images[:60], test_labels[:60], alpha=0.1, **settings)
    assert verdict(strong, "single step") == "PASS"


@pytest.mark.parametrize(
    ("name", "norm"), [("foolbox:FGSM", "linf"), ("torchattacks:FGSM", "linf"), ("foolbox:FGM", "l2")]
)
def test_a_step_is_as_strong_as_itself(network, test_images, test_labels, verdict, name, norm):
    labels = (test_labels + 0)[:80]
    result = run_attack(network, test_images[:80], labels, name, norm=norm, epsilon=BUDGETS[norm])
    assert verdict(result, "single step") == "PASS"
    ours = run_attack(network, test_images[:80], labels, "fgsm", norm=norm, epsilon=BUDGETS[norm])
    detail = next(check.detail for check in result.checks if check.name == "single step")
    assert abs(float(detail.split()[5].rstrip(",")) - ours.robust_accuracy) <= 1 / 80


@pytest.mark.parametrize(
    ("only_step", "only_attack", "wanted"),
    [(0, 0, "PASS"), (2, 0, "PASS"), (3, 0, "WARN"), (8, 4, "PASS"), (12, 3, "WARN"), (0, 40, "PASS")],
)
def test_chance_is_allowed_for(only_step, only_attack, wanted):
    by_step = torch.tensor([True] * only_step + [False] * only_attack + [True] * 50)
    broken = torch.tensor([False] * only_step + [True] * only_attack + [True] * 50)
    assert check_single_step(broken, by_step).verdict == wanted


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("torchattacks:PGD", "linf"),
        ("torchattacks:APGD", "linf"),
        ("torchattacks:PGDL2", "l2"),
        ("foolbox:LinfPGD", "linf"),
        ("foolbox:L2PGD", "l2"),
    ],
)
def test_gradients_that_vanish_are_no_robustness(network, test_images, test_labels, verdict, name, norm):
    """Cross-entropy of logits this large has a gradient of zero, to which an attack and a step beside it are blind."""

    class Sure(nn.Module):
        def forward(self, images):
            return 1e6 * network(images)

    for model, wanted in ((network, "PASS"), (Sure(), "FAIL")):
        result = run_attack(model, test_images[:40], test_labels[:40], name, norm=norm, epsilon=BUDGETS[norm])
        assert verdict(result, "zero gradient") == wanted
        assert result.valid == (wanted == "PASS")


def test_an_attack_that_asks_for_gradients_of_logits_is_not_blind(network, test_images, test_labels):
    class Sure(nn.Module):
        def forward(self, images):
            return 1e6 * network(images)

    result = run_attack(Sure(), test_images[:20], test_labels[:20], "foolbox:LinfDeepFoolAttack", epsilon=0.2)
    assert result.valid


def test_the_own_attacks_have_no_such_check(network, test_images, test_labels):
    result = run_attack(network, test_images[:20], test_labels[:20], "noise", epsilon=0.2)
    assert not {"norm", "single step"} & {check.name for check in result.checks}


def outcome(network, images, labels, name, norm, **options):
    """Return "refused", "error" or "ran", and see that no figure is above FGSM's interval without a word."""
    try:
        result = run_attack(network, images, labels, name, norm=norm, epsilon=BUDGETS[norm], **options)
    except RobustPruneError:
        return "error" if knows_norm(get_attack(name), norm) else "refused"
    step = run_attack(network, images, labels, "fgsm", norm=norm, epsilon=BUDGETS[norm])
    share = step.robust_accuracy
    is_marked = any(check.verdict == "WARN" for check in result.checks if check.name in ("norm", "single step"))
    assert is_marked or result.robust_accuracy <= share + 1.96 * (max(share * (1 - share), 1 / step.n) / step.n) ** 0.5
    return "ran"


QUICK = {
    "torchattacks:BIM": ("ran", "refused", "refused"),
    "torchattacks:CW": ("refused", "ran", "refused"),
    "torchattacks:EADEN": ("refused", "ran", "ran"),
    "torchattacks:FAB": ("ran", "ran", "error"),
    "torchattacks:SparseFool": ("ran", "ran", "ran"),
    "torchattacks:TIFGSM": ("error", "refused", "refused"),  # its kernel is for three channels
    "foolbox:L1BasicIterativeAttack": ("refused", "refused", "ran"),
    "foolbox:L2FMNAttack": ("refused", "ran", "refused"),
    "foolbox:LinfDeepFoolAttack": ("ran", "refused", "refused"),
    "foolbox:InversionAttack": ("ran", "ran", "ran"),
    "foolbox:DatasetAttack": ("error", "error", "error"),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * ("Sparse" in name)) for name in QUICK])
def test_no_figure_is_above_that_of_a_step_without_a_word(network, test_images, test_labels, name):
    options = {"max_iterations": 30, "lr": 0.05} if "EAD" in name else {}
    found = [outcome(network, test_images[:30], test_labels[:30], name, norm, **options) for norm in BUDGETS]
    assert tuple(found) == QUICK[name]


SHORT = {
    "steps": 20,
    "n_queries": 100,
    "max_iterations": 5,
    "binary_search_steps": 3,
    "nb_sample": 16,
    "directions": 10,
}
SHORT |= {"max_gradient_eval_steps": 50, "initial_gradient_eval_steps": 10, "own_restarts": 2, "repeats": 10}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_all_of_them(network, test_images, test_labels, name):
    known = attack_options(name)
    options = {option: value for option, value in SHORT.items() if option in known}
    for norm in BUDGETS:
        assert outcome(network, test_images[:20], test_labels[:20], name, norm, **options) in (
            "refused",
            "error",
            "ran",
        )


def test_norms_are_checked_before_anything_is_computed():
    with pytest.raises(AttackError, match="is for l2"):
        check_norm(get_attack("foolbox:DDNAttack"), "foolbox:DDNAttack", "linf")
