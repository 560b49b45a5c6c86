"""Every check trips on a model made to trip it, and on no sound one."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import binomtest
from torch import nn

from robustprune.attacks import any_of, run_attack, union_attack
from robustprune.attacks.engine.attack_result import Check
from robustprune.attacks.engine.checks import check_clean_agreement, check_containment
from robustprune.attacks.requests import Attack
from robustprune.errors import AttackError


class Before(nn.Module):
    """Puts a function between the images and a network."""

    def __init__(self, function, network):
        super().__init__()
        self.function, self.network = function, network

    def forward(self, images):
        return self.network(self.function(images))


class Scaled(nn.Module):
    def __init__(self, network, factor):
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, images):
        return self.factor * self.network(images)


class StaysInTraining(nn.Dropout):
    def train(self, mode=True):
        return super().train(True)


class GoesBackToTraining(nn.Module):
    def forward(self, images):
        self.train()
        return images


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_sound_model_passes(network, test_images, test_labels, attack, norm):
    result = run_attack(network, test_images, test_labels, attack, epsilon=0.05, norm=norm)
    assert result.valid
    assert {check.name: check.verdict for check in result.checks} == {
        "range": "PASS",
        "mode": "PASS",
        "graph": "PASS",
        "zero gradient": "PASS",
        "containment": "PASS",
        "sample size": "INFO",
        "logits": "PASS",
        "randomness": "PASS",
        "batch coupling": "PASS",
        "stability": "PASS",
        "silent success": "PASS",
        "convergence": "INFO" if attack == "fgsm" else "PASS",
        "transfer failure": "PASS",
        "large budget": "PASS",
    }


def test_a_layer_that_rounds_has_zero_gradients(network, test_images, test_labels, verdict):
    model = Before(lambda images: (images * 16).round() / 16, network)
    result = run_attack(model, test_images, test_labels, epsilon=0.05, steps=3)
    assert verdict(result, "zero gradient") == "FAIL"
    assert verdict(result, "graph") == "PASS"
    assert not result.valid


def test_saturated_logits_have_zero_gradients_and_a_margin_loss_sees_through(
    network, test_images, test_labels, verdict
):
    settings = {"epsilon": 0.08, "steps": 10, "random_start": False}
    honest = run_attack(network, test_images, test_labels, **settings)
    model = Scaled(network, 1e4)
    blinded = run_attack(model, test_images, test_labels, **settings)
    assert blinded.robust_accuracy > honest.robust_accuracy + 0.2
    assert verdict(blinded, "zero gradient") == "FAIL"
    seeing = run_attack(model, test_images, test_labels, loss="margin", **settings)
    assert seeing.valid
    assert seeing.robust_accuracy == pytest.approx(honest.robust_accuracy, abs=0.05)


def test_a_union_is_judged_as_the_ensemble_of_its_members(network, test_images, test_labels, verdict):
    """`quick` is ten steps of PGD on cross-entropy, then on the margin."""
    steep, settings = Scaled(network, 1e4), {"epsilon": 0.08}
    for model, wanted in ((network, "PASS"), (steep, "WARN"), (Before(lambda x: (x * 16).round() / 16, steep), "FAIL")):
        ensemble = run_attack(model, test_images, test_labels, "quick", **settings)
        union = union_attack(
            model, test_images, test_labels, [Attack("pgd", steps=10), Attack("pgd-margin", steps=10)], **settings
        )
        assert verdict(ensemble, "zero gradient") == verdict(union, "zero gradient") == wanted
        assert ensemble.valid == union.valid == (wanted != "FAIL")


@pytest.mark.parametrize(
    ("name", "verdicts", "wanted"),
    [
        ("zero gradient", ("FAIL", "WARN"), "WARN"),
        ("zero gradient", ("FAIL", "PASS"), "WARN"),
        ("zero gradient", ("FAIL", "INFO"), "FAIL"),  # an attack without gradients
        ("zero gradient", ("PASS", "INFO"), "PASS"),
        ("containment", ("FAIL", "WARN"), "FAIL"),
        ("containment", ("FAIL", "PASS"), "FAIL"),
        ("containment", ("WARN", "PASS"), "WARN"),
    ],
)
def test_the_order_of_its_members_changes_no_verdict_of_a_union(
    network, test_images, test_labels, verdict, name, verdicts, wanted
):
    plain = run_attack(network, test_images[:20], test_labels[:20], "noise", draws=1)
    members = [
        replace(plain, attack=each, checks=(*(c for c in plain.checks if c.name != name), Check(name, each, "")))
        for each in verdicts
    ]
    for ordered in (members, members[::-1]):
        assert verdict(any_of(ordered, "union"), name) == wanted


@pytest.mark.parametrize("n", [1, 2, 3, 15, 16, 17, 18])
@pytest.mark.parametrize("attack", ["fgsm", "square", "torchattacks:FGSM"])
def test_any_number_of_images_is_judged(network, test_images, test_labels, verdict, attack, n):
    images, labels = test_images[:n], test_labels[:n]
    options = {"queries": 4} if attack == "square" else {}
    result = run_attack(network, images, labels, attack, epsilon=0.05, batch_size=16, **options)
    assert verdict(result, "batch coupling") == verdict(result, "randomness") == "PASS"
    assert result.valid
    coupled = Before(lambda batch: batch - 0.3 * (batch.mean(0, keepdim=True) - 0.3), network)
    result = run_attack(coupled, images, labels, attack, epsilon=0.05, batch_size=16, frozen=False, **options)
    assert verdict(result, "batch coupling") == "FAIL"


class Then(nn.Module):
    def __init__(self, network, function):
        super().__init__()
        self.network, self.function = network, function

    def forward(self, images):
        return self.function(self.network(images))


@pytest.mark.parametrize(
    ("function", "wanted", "said"),
    [
        (torch.sigmoid, "WARN", "sigmoid"),
        (lambda logits: logits.softmax(1), "WARN", "probabilities"),
        (lambda logits: logits.softmax(1).half().float(), "WARN", ""),
        (lambda logits: logits.clamp(0, 1), "WARN", "sigmoid"),
        (lambda logits: logits.tanh(), "WARN", "tanh"),
        (lambda logits: logits.log_softmax(1), "PASS", "log-probabilities"),
        (lambda logits: logits, "PASS", ""),
        (lambda logits: logits - 100, "PASS", ""),
        (lambda logits: logits * 0.01, "PASS", ""),
        (lambda logits: torch.nn.functional.softplus(logits), "PASS", ""),
    ],
)
def test_outputs_that_are_squeezed_are_told(network, test_images, test_labels, function, wanted, said):
    result = run_attack(Then(network, function).eval(), test_images[:60], test_labels[:60], "noise", draws=1)
    check = next(check for check in result.checks if check.name == "logits")
    assert check.verdict == wanted
    assert said in check.detail


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "apgd-t"])
def test_log_probabilities_are_attacked_as_logits_are(network, test_images, test_labels, attack):
    settings = {"epsilon": 0.06} | ({} if attack == "fgsm" else {"steps": 5})
    expected = run_attack(network, test_images, test_labels, attack, **settings)
    found = run_attack(
        Then(network, lambda logits: logits.log_softmax(1)).eval(), test_images, test_labels, attack, **settings
    )
    assert int((found.broken != expected.broken).sum()) <= 3


def test_few_zero_gradients_only_warn(network, test_images, verdict):
    # Three of the 300 images, told by a first pixel of exactly 1, reach the network as constants.
    test_images[:, :, 0, 0] = 0
    test_images[:3, :, 0, 0] = 1

    def hide_three(images):
        is_hidden = (images[:, :1, :1, :1] > 0.9).float()
        return images * (1 - is_hidden) + is_hidden * images.detach()

    labels = network(test_images).argmax(1)
    model = Before(hide_three, network)
    result = run_attack(model, test_images, labels, epsilon=0.01, steps=2, random_start=False)
    assert verdict(result, "zero gradient") == "WARN"
    assert next(check.detail for check in result.checks if check.name == "zero gradient").startswith("3 of 300")
    assert result.valid


@pytest.mark.parametrize("cut", [lambda images: images.detach(), lambda images: images.detach().requires_grad_()])
def test_logits_cut_off_from_the_input_are_a_verdict_not_a_crash(network, test_images, test_labels, verdict, cut):
    result = run_attack(Before(cut, network), test_images, test_labels, epsilon=0.05, steps=3)
    assert verdict(result, "graph") == "FAIL"
    assert not result.valid


def test_gradients_that_are_nan_are_a_verdict_not_a_crash(network, test_images, test_labels, verdict):
    # √0 has an infinite slope; times zero it is NaN.
    model = Before(lambda images: images + 0 * (images * 0).sqrt(), network)
    result = run_attack(model, test_images, test_labels, epsilon=0.05, steps=3)
    assert verdict(result, "graph") == "FAIL"
    assert torch.isfinite(result.adversarial).all()


def test_a_gradient_that_is_one_number_spread_out_is_taken(verdict):
    class Sum(nn.Module):
        def forward(self, images):
            total = images.flatten(1).sum(1)
            return torch.stack([total, torch.full_like(total, 2.0)], dim=1)

    result = run_attack(Sum(), torch.full((3, 5), 0.5), torch.zeros(3, dtype=torch.long), epsilon=0.2)
    assert verdict(result, "graph") == "PASS"
    assert result.robust_accuracy == 0


def test_logits_that_overflow_inside_the_ball_are_no_success(network, test_images, test_labels, verdict):
    clean = test_images.clone()

    def overflow(images):
        is_clean = torch.tensor([bool((clean == image).flatten(1).all(1).any()) for image in images])
        return torch.where(is_clean[:, None, None, None], images, images * torch.inf)

    for selection in ("best", "last"):
        result = run_attack(
            Before(overflow, network),
            test_images,
            test_labels,
            "fgsm",
            epsilon=0.05,
            selection=selection,
            frozen=False,  # the copy would be compared on noise, which overflows
        )
        assert result.robust_accuracy == result.clean_accuracy
        assert verdict(result, "graph") == "FAIL"


def test_a_model_in_training_mode_is_attacked_in_evaluation_mode(network, test_images, test_labels, verdict):
    expected = run_attack(network, test_images, test_labels, epsilon=0.05)
    result = run_attack(network.train(), test_images, test_labels, epsilon=0.05)
    assert verdict(result, "mode") == "INFO"
    assert result.valid
    assert torch.equal(result.adversarial, expected.adversarial)


@pytest.mark.parametrize("layer", [StaysInTraining(0.0), GoesBackToTraining()])
def test_a_submodule_in_training_mode_fails(network, test_images, test_labels, verdict, layer):
    model = nn.Sequential(layer, network).eval()
    result = run_attack(model, test_images, test_labels, epsilon=0.05, steps=2)
    assert verdict(result, "mode") == "FAIL"
    assert not result.valid


def test_clean_accuracy_is_compared(network, test_images, test_labels, verdict):
    own = run_attack(network, test_images, test_labels, "fgsm").clean_accuracy
    for expected, wanted in ((own, "PASS"), (own - 1 / 300, "FAIL"), (0.1, "FAIL")):
        result = run_attack(network, test_images, test_labels, "fgsm", expected_clean_accuracy=expected)
        assert verdict(result, "clean agreement") == wanted
        assert result.valid == (wanted == "PASS")


@pytest.mark.parametrize(
    ("differing", "n", "wanted"),
    [(0, 10_000, "PASS"), (1, 10_000, "WARN"), (6, 10_000, "FAIL"), (1, 500, "FAIL")],
)
def test_rounding_may_flip_one_of_many(differing, n, wanted):
    is_right = torch.arange(n) < 0.9 * n
    assert check_clean_agreement(is_right, 0.9 - differing / n).verdict == wanted


@pytest.mark.parametrize(
    ("pixel", "size", "wanted"),
    [
        (0.5, 0.1, "PASS"),
        (0.5, 0.1 * (1 + 2e-5), "FAIL"),
        (1.0001, 0.1, "FAIL"),
        (-0.0001, 0.1, "FAIL"),
        (0.5, torch.nan, "FAIL"),
        (torch.nan, 0.1, "FAIL"),
    ],
)
def test_containment_is_measured(pixel, size, wanted):
    sizes = torch.tensor([0.05, size], dtype=torch.float64)
    assert check_containment(torch.tensor([[0.5], [pixel]]), sizes, 0.1).verdict == wanted


def test_sample_size_states_the_interval(network, test_images, test_labels):
    result = run_attack(network, test_images, test_labels, epsilon=0.05)
    robust = 300 - int(result.broken.sum())
    interval = binomtest(robust, 300).proportion_ci(method="wilson")
    detail = next(check.detail for check in result.checks if check.name == "sample size")
    assert f"[{interval.low:.4f}, {interval.high:.4f}]" in detail


def test_clean_logits_that_are_not_finite_are_a_clean_error(network, test_images, test_labels):
    with pytest.raises(AttackError, match="on 300 of 300 clean images"):
        run_attack(Scaled(network, torch.nan), test_images, test_labels)
