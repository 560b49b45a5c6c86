"""What an outcome may and may not depend on, and what it is made of."""

import pytest
import torch
from torch import nn

from robustprune.attacks import Attack, AttackProblem, Check, attack_options, pgd, run_attack
from robustprune.attacks.engine import chunk_runner, full_checks
from robustprune.attacks.engine.attack_counts import Counts
from robustprune.attacks.engine.queries import Batches, ModelQueries
from robustprune.attacks.engine.samples import Samples
from robustprune.inference import predict_logits
from robustprune.runtime.work import Work

EPSILON = 0.08


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_neither_batch_size_nor_order_nor_subset_changes_a_sample(network, test_images, test_labels, norm):
    settings = {
        "epsilon": EPSILON if norm == "linf" else 0.6,
        "norm": norm,
        "steps": 5,
        "restarts": 2,
        "seed": 4,
    }
    whole = run_attack(network, test_images, test_labels, **settings)
    assert 0.02 < whole.robust_accuracy < 0.98

    other_batches = run_attack(network, test_images, test_labels, batch_size=17, **settings)
    assert torch.equal(other_batches.broken, whole.broken)

    order = torch.randperm(len(test_labels), generator=torch.Generator().manual_seed(0))
    for ids in (order, order[:60]):
        part = run_attack(network, test_images[ids], test_labels[ids], sample_ids=ids, **settings)
        assert torch.equal(part.broken, whole.broken[ids])
        torch.testing.assert_close(part.perturbation_norms, whole.perturbation_norms[ids], atol=0.05, rtol=0)


def test_waves_of_bounded_memory_change_nothing(network, test_images, test_labels, monkeypatch):
    settings = {"epsilon": EPSILON, "steps": 5, "batch_size": 32}
    whole = run_attack(network, test_images, test_labels, **settings)
    monkeypatch.setattr(chunk_runner, "CHUNK_SAMPLES", 100)
    parts = run_attack(network, test_images, test_labels, **settings)
    assert torch.equal(parts.broken, whole.broken)
    assert parts.adversarial.shape == whole.adversarial.shape
    assert parts.forward_evaluations == whole.forward_evaluations


class FirstTwo(nn.Module):
    def forward(self, images):
        return images.flatten(1)[:, :2]


def problem_of(images, ids, seed=0, norm="linf", epsilon=0.1, restart=0, batch_size=4):
    request = Attack(epsilon=epsilon, norm=norm, seed=seed, batch_size=batch_size)
    labels = torch.zeros(len(images), dtype=torch.long)
    queries = ModelQueries(Counts(), Batches(batch_size), lambda samples: None)
    clean_logits = torch.tensor([[1.0, 0.0]]).expand(len(images), 2)
    problem = AttackProblem(queries, FirstTwo(), Samples(images, labels, ids), clean_logits, request)
    problem.begin_restart(restart)
    return problem


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_are_keyed_by_seed_sample_and_restart(norm):
    images = torch.full((6, 3, 4, 4), 0.5)
    start = problem_of(images, [5, 6, 7, 8, 9, 10], norm=norm).random_start()
    again = problem_of(images[:2], [9, 6], norm=norm, batch_size=1)
    assert torch.equal(again.random_start(), start[[4, 1]])
    assert not torch.equal(again.random_start(), start[[4, 1]])  # the next draw is another one
    for changed in ({"seed": 1}, {"restart": 1}):
        assert not torch.isclose(
            problem_of(images, [5, 6, 7, 8, 9, 10], norm=norm, **changed).random_start(), start
        ).all()


def test_random_starts_fill_the_ball_uniformly():
    # Uniform in volume: half of it lies within radius ε·(1/2)^(1/d); an L∞ ball has every coordinate uniform.
    images, ids = torch.full((2000, 3), 0.5), list(range(2000))
    radii = (problem_of(images, ids, norm="l2").random_start() - images).norm(dim=1)
    assert float((radii < 0.1 * 0.5 ** (1 / 3)).float().mean()) == pytest.approx(0.5, abs=0.05)
    coordinates = problem_of(images, ids).random_start() - images
    assert float(coordinates.var()) == pytest.approx(0.1**2 / 3, rel=0.05)


def test_the_seed_decides(network, test_images, test_labels):
    first, again, other = (
        pgd(network, test_images[:20], test_labels[:20], epsilon=0.05, steps=1, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_restarts_only_ever_lower_the_robust_accuracy(network, test_images, test_labels):
    for selection in ("best", "last"):
        robust = [
            run_attack(
                network,
                test_images,
                test_labels,
                epsilon=0.05,
                steps=2,
                restarts=restarts,
                selection=selection,
            ).broken
            for restarts in (1, 2, 4)
        ]
        assert (robust[0] <= robust[1]).all()
        assert (robust[1] <= robust[2]).all()


def test_restarts_run_on_survivors_only_and_not_at_all_without_chance(network, test_images, test_labels):
    settings = {"epsilon": EPSILON, "steps": 3, "early_stop": False}
    once = run_attack(network, test_images, test_labels, **settings)
    correct, survivors = (300 - int(each.sum()) for each in (once.initially_wrong, once.broken))
    assert once.gradient_evaluations == 3 * correct
    twice = run_attack(network, test_images, test_labels, restarts=2, **settings)
    assert twice.gradient_evaluations == 3 * (correct + survivors)
    same = run_attack(network, test_images, test_labels, restarts=5, random_start=False, **settings)
    assert same.gradient_evaluations == 3 * correct


def test_iterated_steps_beat_one(network, test_images, test_labels):
    for epsilon in (0.02, 0.05, EPSILON):
        one = run_attack(network, test_images, test_labels, "fgsm", epsilon=epsilon)
        many = run_attack(network, test_images, test_labels, "pgd", epsilon=epsilon)
        assert many.robust_accuracy <= one.robust_accuracy <= one.clean_accuracy


def test_counts_are_those_of_the_model(network, test_images, test_labels, monkeypatch):
    seen = []
    # Attacks that a check makes are not counted.
    monkeypatch.setattr(full_checks, "check_large_budget", lambda *_: Check("large budget", "PASS", ""))
    hook = network.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    settings = {"epsilon": EPSILON, "steps": 6, "batch_size": 64, "frozen": False}
    full = run_attack(network, test_images, test_labels, early_stop=False, **settings)
    assert sum(seen) == full.forward_evaluations
    seen.clear()
    early = run_attack(network, test_images, test_labels, **settings)
    hook.remove()
    assert sum(seen) == early.forward_evaluations < full.forward_evaluations
    assert early.gradient_evaluations < full.gradient_evaluations
    # Packed: at most one batch per pass is not full.
    checks = [16, 16, 1, 1, 18, 16, 16]
    assert seen[-7:] == checks
    assert sum(size < 64 for size in seen[:-7]) <= 2 + 7
    assert abs(early.robust_accuracy - full.robust_accuracy) < 0.01


def test_mistakes_are_not_attacked(network, test_images, test_labels):
    labels = (test_labels + 1) % 10
    result = run_attack(network, test_images, labels, epsilon=EPSILON)
    wrong = result.initially_wrong
    assert wrong.float().mean() > 0.9
    assert result.broken[wrong].all()
    assert torch.equal(result.adversarial[wrong], test_images[wrong])
    assert (result.broken_at_step[wrong] == 0).all()


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_budget_no_change(network, test_images, test_labels, attack, norm):
    result = run_attack(network, test_images, test_labels, attack, epsilon=0, norm=norm)
    assert torch.equal(result.adversarial, test_images)
    assert result.robust_accuracy == result.clean_accuracy
    assert result.gradient_evaluations == 0
    assert result.valid


def test_the_result_agrees_with_a_fresh_look(network, test_images, test_labels):
    result = run_attack(network, test_images, test_labels, epsilon="8/255", steps=7)
    predictions = predict_logits(network, result.adversarial, batch_size=256).argmax(1)
    assert torch.equal(result.adversarial_predictions, predictions)
    assert torch.equal(result.broken, predictions != test_labels)
    assert torch.equal(result.clean_predictions, predict_logits(network, test_images).argmax(1))
    assert torch.equal(result.broken_at_step >= 0, result.broken)
    assert result.broken_at_step.max() <= 8
    delta = (result.adversarial.double() - test_images.double()).flatten(1)
    assert torch.equal(result.perturbation_norms, delta.abs().amax(1))
    assert result.options == {
        **attack_options("pgd"),
        "steps": 7,
        "schedule": "falling",
        "restarts": 1,
        "seed": 0,
        "batch_size": 256,
        "early_stop": True,
        "selection": "best",
        "eot": 1,
        "frozen": True,
    }
    assert result.epsilon == 8 / 255
    assert result.seconds > 0


def test_bytes_and_floats_are_the_same_images(network, test_images, test_labels):
    as_bytes = (test_images * 255).round().byte()
    from_bytes = run_attack(network, as_bytes, test_labels, epsilon=0.05, steps=2)
    from_floats = run_attack(network, as_bytes.float() / 255, test_labels, epsilon=0.05, steps=2)
    assert torch.equal(from_bytes.adversarial, from_floats.adversarial)


def test_arrays_and_tensors_are_the_same_images(network, test_images, test_labels):
    expected = run_attack(network, test_images, test_labels, epsilon=0.05, steps=2)
    images, labels = test_images.numpy(), test_labels.numpy().astype("uint8")
    images.flags.writeable = False
    result = run_attack(network, images, labels, epsilon=0.05, steps=2, sample_ids=range(300))
    assert torch.equal(result.adversarial, expected.adversarial)
    assert torch.equal(pgd(network, images, labels, epsilon=0.05, steps=2), expected.adversarial)


def test_the_best_point_is_never_below_the_last(network, test_images, test_labels):
    settings = {"epsilon": 0.03, "steps": 4, "step_size": 0.03, "early_stop": False}
    loss = nn.CrossEntropyLoss(reduction="none")
    best, last = (
        run_attack(network, test_images, test_labels, selection=selection, **settings) for selection in ("best", "last")
    )
    assert (best.broken >= last.broken).all()
    same = best.broken == last.broken
    with torch.no_grad():
        gain = loss(network(best.adversarial), test_labels) - loss(network(last.adversarial), test_labels)
    assert (gain[same & ~best.initially_wrong] >= -1e-5).all()


def test_progress_rises_to_the_total(network, test_images, test_labels, monkeypatch):
    monkeypatch.setattr(chunk_runner, "CHUNK_SAMPLES", 100)
    for attack, options in (("pgd", {"steps": 3, "restarts": 2}), ("fgsm", {})):
        told = []
        run_attack(
            network,
            test_images,
            test_labels,
            attack,
            epsilon=EPSILON,
            batch_size=50,
            work=Work(progress=lambda _, done, total, told=told: told.append((done, total))),
            **options,
        )
        done = [each for each, _ in told]
        assert done == sorted(done)
        assert told[-1][0] == told[-1][1]
        assert len({total for _, total in told}) == 1


def test_fab_starts_again_elsewhere(network, test_images, test_labels):
    settings = {"attack": "fab-t", "epsilon": 0.05, "steps": 3, "target_classes": 1}
    once = run_attack(network, test_images, test_labels, **settings)
    thrice = run_attack(network, test_images, test_labels, restarts=3, **settings)
    assert (once.options["restarts"], thrice.options["restarts"]) == (1, 3)
    assert (thrice.queries[once.broken] == once.queries[once.broken]).all()
    survivors = ~thrice.broken
    assert (thrice.queries[survivors] >= 3 * once.queries[survivors] - 2).all()
    assert thrice.broken[once.broken].all()
    # The first start is the image, whatever the seed.
    other = run_attack(network, test_images, test_labels, restarts=3, seed=1, **settings)
    assert torch.equal(other.adversarial[once.broken], thrice.adversarial[once.broken])
