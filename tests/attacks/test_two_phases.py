"""An ensemble whose second phase sees some survivors: what it finds of them, and what it says of the others."""

import pytest
import torch
from torch import nn

from robustprune.attacks import Attack, attack_options, run_attack
from robustprune.attacks.engine import two_phases
from robustprune.errors import AttackError
from robustprune.runtime.work import Work

# One step of APGD leaves much to the second phase.
ENSEMBLE = {"attack": "autoattack", "epsilon": 0.15, "steps": 1, "queries": 60, "target_classes": 6}
FIRST = "apgd-ce+apgd-t[:3]"


@pytest.fixture
def whole(network, test_images, test_labels):
    return run_attack(network, test_images, test_labels, **ENSEMBLE)


def test_sampled_survivors_fare_as_under_the_whole_ensemble(network, test_images, test_labels, whole):
    found = run_attack(network, test_images, test_labels, **ENSEMBLE, sample=40)
    survivors = ~run_attack(network, test_images, test_labels, **ENSEMBLE, attacks=FIRST).broken
    assert (found.sampled.survivors, found.sampled.sampled) == (int(survivors.sum()), 40)
    assert int(survivors.sum()) > 40
    assert int((found.broken & survivors).sum()) == found.sampled.broken > 0
    assert {found.broken_by[sample] for sample in (found.broken & survivors).nonzero()} <= {"apgd-t", "fab-t", "square"}
    # What is broken is broken under the whole ensemble, by the same part, with the same image.
    assert not (found.broken & ~whole.broken).any()
    for sample in found.broken.nonzero()[:, 0].tolist():
        assert found.broken_by[sample] == whole.broken_by[sample]
        assert torch.equal(found.adversarial[sample], whole.adversarial[sample])
        assert found.queries[sample] == whole.queries[sample]
        assert found.broken_at_step[sample] == whole.broken_at_step[sample]
    assert not (whole.broken & ~found.broken & ~survivors).any()
    low, high = found.sampled.interval
    assert low <= whole.robust_accuracy <= high <= found.robust_accuracy
    details = {check.name: check.detail for check in found.checks}
    assert f"attacked 40 of {found.sampled.survivors} survivors" in details["sampled"]
    assert f"{found.n} samples: robust accuracy" in details["sample size"]
    assert found.gradient_evaluations < whole.gradient_evaluations
    passes = whole.gradient_evaluations + whole.forward_evaluations
    assert found.sampled.passes == pytest.approx(passes, rel=0.3)


def test_classes_can_be_divided_between_phases(network, test_images, test_labels):
    how = {"attack": "autoattack", "epsilon": 0.2, "steps": 2, "target_classes": 6}
    undivided = run_attack(network, test_images, test_labels, **how, attacks="apgd-t")
    first = run_attack(network, test_images, test_labels, **how, attacks="apgd-t[:1]")
    left = (~first.broken).nonzero()[:, 0]
    second = run_attack(network, test_images[left], test_labels[left], **how, attacks="apgd-t[1:]", sample_ids=left)
    assert second.broken.any()
    assert torch.equal(undivided.broken[left], second.broken)
    assert torch.equal(undivided.adversarial[left], second.adversarial)
    assert torch.equal(undivided.queries[left], first.queries[left] + second.queries)


def test_the_second_phase_aims_at_all_other_classes(digits):
    # Of fourteen classes, AutoAttack aims at nine unless told otherwise.
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 14)).eval()
    images = digits[0][:12]
    how = {"epsilon": 0.01, "steps": 1, "queries": 1, "target_classes": 12}
    labels = network(images).argmax(1)
    whole, phased = (run_attack(network, images, labels, "autoattack", **how, sample=each) for each in ("all", 100))
    assert phased.options["stages"]["apgd-t"]["target_classes"] == 12
    assert whole.queries.max() > 0
    assert torch.equal(phased.queries, whole.queries)


def test_every_survivor_is_drawn_as_often():
    survivors, counts = torch.arange(10, 40), torch.zeros(40)
    for seed in range(400):
        drawn = two_phases.draw_survivors(survivors, list(range(100, 140)), 6, Attack("strong", seed=seed))
        assert drawn.tolist() == sorted(set(drawn.tolist()))
        counts[drawn] += 1
    assert counts[:10].sum() == 0
    expected = 400 * 6 / 30
    assert float(((counts[10:] - expected) ** 2 / expected).sum()) < 49.6  # χ² with 29 degrees of freedom, 99 %


def test_each_attack_and_budget_draws_anew():
    # What a smaller budget drew and did not break is tougher than the rest: to draw it again would be no random sample.
    survivors, ids, draws = torch.arange(30), list(range(30)), 400
    of_strong = {"name": "strong", "epsilon": 0.1}
    for other in (of_strong | {"epsilon": 0.2}, of_strong | {"name": "strong:sample=6"}):
        again = [
            set(two_phases.draw_survivors(survivors, ids, 6, Attack(**of_strong, seed=seed)).tolist())
            & set(two_phases.draw_survivors(survivors, ids, 6, Attack(**other, seed=seed)).tolist())
            for seed in range(draws)
        ]
        # A hypergeometric count of mean 6·6/30 and variance 0.794, within four standard errors.
        assert abs(sum(map(len, again)) / draws - 1.2) < 4 * (0.794 / draws) ** 0.5


def test_a_sample_of_all_survivors_is_the_whole_ensemble(network, test_images, test_labels, whole):
    found = run_attack(network, test_images, test_labels, **ENSEMBLE, sample=300)
    assert torch.equal(found.broken, whole.broken)
    assert torch.equal(found.queries, whole.queries)
    assert found.broken_by == whole.broken_by
    assert found.sampled.interval == (whole.robust_accuracy,) * 2


def test_where_nothing_survives_nothing_is_sampled(network, test_images, test_labels):
    found = run_attack(network, test_images[:20], test_labels[:20], **ENSEMBLE | {"epsilon": 1.0}, sample=5)
    assert found.robust_accuracy == 0
    assert (found.sampled.survivors, found.sampled.interval) == (0, (0.0, 0.0))


def test_the_strong_ensemble_samples_where_there_are_many(network, test_images, test_labels, monkeypatch):
    few = run_attack(network, test_images[:6], test_labels[:6], "strong", epsilon=0.01)
    assert few.sampled is None
    monkeypatch.setattr(two_phases, "MANY_SAMPLES", 5)
    monkeypatch.setattr(two_phases, "USUAL_SAMPLE", 2)
    many = run_attack(network, test_images[:6], test_labels[:6], "strong", epsilon=0.01)
    assert many.sampled.sampled == 2
    assert run_attack(network, test_images[:6], test_labels[:6], "strong", epsilon=0.01, sample="all").sampled is None
    # Whose parts are given, or whose network draws at random, attacks all.
    own = run_attack(network, test_images[:6], test_labels[:6], "strong:attacks=pgd-ce", epsilon=0.01)
    assert (own.sampled, list(own.options["stages"])) == (None, ["pgd-ce"])
    assert two_phases.sample_size(Attack("strong", eot=2), attack_options("strong"), 6) is None


def test_progress_counts_what_the_parts_take(network, test_images, test_labels):
    told = []
    images, labels = test_images[:40], test_labels[:40]
    run_attack(
        network, images, labels, **ENSEMBLE, work=Work(progress=lambda text, done, total: told.append((done, total)))
    )
    # A step of APGD, one of APGD-T and of FAB-T for each class, all with a last look, and 60 queries of Square.
    assert {total for _, total in told} == {40 * (2 + 7 + 7 + 61)}
    assert told[-1][0] == told[-1][1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sample": 0}, "sample must be an integer of at least 1"),
        ({"sample": "some"}, "sample must be a number of survivors, 'all' or 'auto', got 'some'"),
        ({"sample": 5, "attacks": "apgd-ce"}, "give either sample or attacks"),
        ({"sample": 5, "eot": 2}, "leave eot at 1, or sample at 'all'"),
        ({"attacks": "fab-t[:2]"}, r"no part 'fab-t\[:2\]'. Did you mean 'fab-t'"),
        ({"attacks": "apgd-ce+apgd"}, "no part 'apgd'. Did you mean 'apgd-t'"),
        ({"attacks": "apgd-t[3:2]"}, r"'apgd-t\[3:2\]' aims at no class"),
        ({"attacks": "apgd-t[:0]"}, r"'apgd-t\[0:0\]' aims at no class"),
        ({"attacks": "apgd-t[:3]+square+apgd-t[3:]"}, "'apgd-t' is named twice"),
        ({"attacks": 5}, "attacks must be names of parts joined by a plus, got 5"),
        ({"target_classes": "all"}, "target_classes must be an integer of at least 1, got 'all'"),
    ],
)
def test_what_makes_no_sense(network, test_images, test_labels, options, said):
    with pytest.raises(AttackError, match=said):
        run_attack(network, test_images[:4], test_labels[:4], **ENSEMBLE | options)
