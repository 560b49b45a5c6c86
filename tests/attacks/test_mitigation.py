"""What doubtful checks suggest is carried out, and finds on networks of known masking what an honest attack does."""

import pytest
import torch
from test_attack_checks import Before, Scaled
from test_attack_defects import AlwaysDrops

from robustprune.attacks import Attack, run_attack, security_curve, union_attack
from robustprune.attacks.engine import mitigation

N, QUERIES, DRAWS = 40, 300, 4
SETTINGS = {"epsilon": 0.16, "steps": 5}


def rounded(images):
    return (images * 64).round() / 64


def shattered(images):
    return images + 0.02 * torch.sin(1000 * images)


@pytest.fixture
def attacked(test_images, test_labels, monkeypatch):
    monkeypatch.setattr(mitigation, "QUERIES", QUERIES)
    monkeypatch.setattr(mitigation, "DRAWS", DRAWS)
    return test_images[:N], test_labels[:N]


def check_of(result, name):
    return next(check for check in result.checks if check.name == name)


def test_nothing_is_done_where_nothing_is_in_doubt(network, attacked):
    plain = run_attack(network, *attacked, **SETTINGS)
    asked = run_attack(network, *attacked, mitigate=True, **SETTINGS)
    assert asked.mitigated is None
    assert asked.checks == plain.checks
    assert torch.equal(asked.adversarial, plain.adversarial)


@pytest.mark.parametrize(
    ("mask", "check", "verdict", "remedy"),
    [
        (lambda net: Scaled(net, 1e4), "zero gradient", "PASS", "pgd-margin:steps=20"),
        (lambda net: Before(rounded, net), "zero gradient", "INFO", "square:queries=300,rescale=True"),
        (lambda net: Before(torch.detach, net), "graph", "INFO", "square:queries=300,rescale=True"),
        (
            lambda net: Before(lambda x: x + 0.02 * torch.sin(1000 * x), net),
            "stability",
            "INFO",
            "square:queries=300,rescale=True",
        ),
    ],
)
def test_what_is_masked_is_found(network, attacked, mask, check, verdict, remedy):
    honest = run_attack(network, *attacked, "pgd-margin", epsilon=0.16)
    result = run_attack(mask(network), *attacked, mitigate=True, **SETTINGS)
    after = result.mitigated
    assert result.robust_accuracy > honest.robust_accuracy + 0.2
    assert after.robust_accuracy <= honest.robust_accuracy + 0.25
    assert not bool((result.broken & ~after.broken).any())
    assert after.valid
    assert after.attack == "mitigated:pgd"
    assert (check_of(result, check).verdict in ("WARN", "FAIL"), check_of(after, check).verdict) == (True, verdict)
    told = f"mitigated with {remedy}: robust accuracy {result.robust_accuracy:.2%} → {after.robust_accuracy:.2%}"
    assert check_of(result, check).detail.endswith(told)
    predictions = mask(network)(after.adversarial).argmax(1)
    assert torch.equal(predictions != after.labels, after.broken)
    assert float((after.adversarial - attacked[0]).abs().max()) <= 0.16 * (1 + 1e-5)


def test_without_gradients_a_cut_graph_changes_nothing(network, attacked):
    cut = run_attack(Before(torch.detach, network), *attacked, mitigate=True, **SETTINGS)
    blind = run_attack(network, *attacked, "square", epsilon=0.16, queries=QUERIES, rescale=True, previous=cut)
    assert torch.equal(cut.mitigated.broken, blind.broken)


def test_steps_are_doubled_until_the_loss_stops_rising(network, attacked):
    enough = run_attack(network, *attacked, epsilon=0.16)
    short = run_attack(network, *attacked, epsilon=0.16, steps=20, step_size=0.16 / 200, mitigate=True)
    assert check_of(short, "convergence").verdict == "WARN"
    assert short.mitigated.robust_accuracy == pytest.approx(enough.robust_accuracy, abs=0.03)
    assert check_of(short.mitigated, "convergence").verdict == "PASS"
    assert short.robust_accuracy > enough.robust_accuracy + 0.2


def test_a_random_network_is_attacked_anew_through_the_mean_of_its_draws(network, attacked):
    model = Before(AlwaysDrops(), network)
    result = run_attack(model, *attacked, mitigate=True, **SETTINGS)
    assert not result.valid
    assert result.mitigated.valid
    alone = run_attack(model, *attacked, eot=DRAWS, **SETTINGS)
    assert torch.equal(result.mitigated.broken, alone.broken)


def test_what_has_no_remedy_stays_in_doubt(network, attacked):
    coupled = Before(lambda batch: batch - 0.3 * (batch.mean(0, keepdim=True) - 0.3), network)
    result = run_attack(coupled, *attacked, mitigate=True, **SETTINGS)
    assert not result.valid
    assert result.mitigated is None or not result.mitigated.valid


def test_a_remedy_says_that_it_attacks_all_survivors():
    doubted = Attack("autoattack:sample=4,queries=9", epsilon=0.1)
    remedies = [remedy.attack(doubted) for remedy in mitigation.REMEDIES if "convergence" in remedy.answers]
    assert [each.label for each in remedies] == ["autoattack:queries=9,steps=200"]
    assert "sample" not in remedies[0].options


def test_a_larger_budget_keeps_what_a_smaller_one_was_mitigated_to(network, attacked):
    curve = security_curve(Before(rounded, network), *attacked, epsilons=[0.06, 0.16], steps=3, mitigate=True)
    small, large = (result.mitigated for result in curve.results)
    assert not bool((small.broken & ~large.broken).any())
    assert large.robust_accuracy < small.robust_accuracy


def test_a_union_is_mitigated_as_one(network, attacked):
    steep = Scaled(network, 1e4)
    result = union_attack(steep, *attacked, ["fgsm", "pgd"], epsilon=0.16, mitigate=True)
    assert result.mitigated.attack == "mitigated:union"
    assert not bool((result.broken & ~result.mitigated.broken).any())
    assert result.mitigated.robust_accuracy < result.robust_accuracy - 0.2
    assert union_attack(network, *attacked, ["fgsm", "pgd"], epsilon=0.16, mitigate=True).mitigated is None
