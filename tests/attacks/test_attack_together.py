"""Several budgets, several attacks, several networks."""

import copy
import threading
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from robustprune.attacks import (
    ATTACKS,
    check_transfer,
    get_attack,
    run_attack,
    save_adversarial,
    security_curve,
    transfer_attack,
    union_attack,
)
from robustprune.attacks.engine.queries import Batches, is_out_of_memory
from robustprune.attacks.requests import Attack
from robustprune.errors import AttackError, ModelWarning
from robustprune.inference import predict_logits
from robustprune.inference.packed import Packed

EPSILONS = ["0.02", 0.05, 0.08, 0.12]
ENSEMBLE = {"attack": "autoattack", "epsilon": 0.06, "steps": 6, "queries": 30, "target_classes": 2}


def test_a_curve_falls_and_attacks_survivors_only(network, test_images, test_labels):
    curve = security_curve(network, test_images, test_labels, "pgd", epsilons=reversed(EPSILONS), steps=5)
    assert curve.epsilons == [0.02, 0.05, 0.08, 0.12]
    assert curve.robust_accuracies == sorted(curve.robust_accuracies, reverse=True)
    alone = [run_attack(network, test_images, test_labels, epsilon=epsilon, steps=5) for epsilon in EPSILONS]
    for below, result, lone in zip([None, *curve.results], curve.results, alone, strict=False):
        assert result.valid
        # Each breaks at least what it would alone, but for chance in what it starts from: nothing at all here.
        assert (result.broken >= lone.broken).all()
        if below is not None:
            assert result.broken[below.broken].all()
            assert torch.equal(result.adversarial[below.broken], below.adversarial[below.broken])
            assert result.gradient_evaluations <= 5 * int((~below.broken).sum())
    total = sum(result.gradient_evaluations for result in curve.results)
    assert total < sum(lone.gradient_evaluations for lone in alone)


def test_minimal_budgets_are_the_first_that_break(network, test_images, test_labels):
    curve = security_curve(network, test_images, test_labels, "pgd", epsilons=EPSILONS, steps=5)
    minimal = curve.minimal_epsilon
    for row in range(300):
        broken = [result.epsilon for result in curve.results if result.broken[row]]
        expected = 0 if curve.results[0].initially_wrong[row] else min(broken, default=np.inf)
        assert minimal[row] == expected
    assert curve.median_minimal_epsilon == sorted(minimal.tolist())[150]


def test_only_smaller_budgets_of_the_same_samples_are_carried(network, test_images, test_labels):
    wide = run_attack(network, test_images, test_labels, epsilon=0.1, steps=2)
    with pytest.raises(AttackError, match="not within"):
        run_attack(network, test_images, test_labels, epsilon=0.05, previous=wide)
    with pytest.raises(AttackError, match="not within"):
        run_attack(network, test_images, test_labels, epsilon=1, norm="l2", previous=wide)
    with pytest.raises(AttackError, match="other samples"):
        run_attack(network, test_images[:50], test_labels[:50], epsilon=0.1, previous=wide)


def test_a_union_is_the_worst_of_its_members(network, test_images, test_labels):
    members = {"pgd": {"steps": 5}, "noise": {"draws": 3}, "fgsm": {}}
    settings = {"epsilon": 0.05}
    asked = [Attack(name, **own) for name, own in members.items()]
    union = union_attack(network, test_images, test_labels, asked, **settings)
    alone = [run_attack(network, test_images, test_labels, name, **own, **settings) for name, own in members.items()]
    assert union.broken.sum() >= max(int(each.broken.sum()) for each in alone)
    # The cheapest comes first, and alone on all of the samples.
    assert list(union.options["attacks"]) == ["noise", "fgsm", "pgd"]
    by = np.array(union.broken_by)
    assert np.array_equal(by == "noise", (alone[1].broken & ~alone[1].initially_wrong).numpy())
    assert set(by) == {"", "clean", "noise", "fgsm", "pgd"}
    assert union.valid


def test_an_ensemble_names_the_part_that_broke(network, test_images, test_labels):
    result = run_attack(network, test_images, test_labels, **ENSEMBLE)
    alone = run_attack(network, test_images, test_labels, "apgd-ce", epsilon=0.06, steps=6)
    by = np.array(result.broken_by)
    assert set(by) <= {"", "clean", "apgd-ce", "apgd-t", "fab-t", "square"}
    assert (by == "apgd-ce").sum() == pytest.approx(int((alone.broken & ~alone.initially_wrong).sum()), abs=6)
    assert list(result.options["stages"]) == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert result.options["stages"]["fab-t"] == {"steps": 6, "target_classes": 2}
    assert result.options["stages"]["square"] == {"queries": 30, "first_share": 0.8, "rescale": False}


@pytest.fixture
def other_network(network):
    """The same network, a little disturbed: what fools one mostly fools the other."""
    other = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.1 * parameter.std() * torch.randn(parameter.shape, generator=generator)
    return other


def test_examples_carry_over_to_another_network(network, other_network, test_images, test_labels):
    settings = {"epsilon": 0.12, "steps": 20}
    direct = run_attack(network, test_images, test_labels, restarts=10, loss="margin", **settings)
    moved = transfer_attack(network, other_network, test_images, test_labels, "pgd", **settings)
    assert direct.robust_accuracy <= moved.robust_accuracy < moved.clean_accuracy - 0.2
    predictions = predict_logits(network, moved.adversarial).argmax(1)
    assert torch.equal(moved.adversarial_predictions, predictions)
    assert torch.equal(moved.broken, (predictions != test_labels) | direct.initially_wrong)
    assert set(moved.broken_by) == {"", "clean", "transfer:pgd"}
    assert check_transfer(direct, moved).verdict == "PASS"
    weak = run_attack(network, test_images, test_labels, "noise", epsilon=0.12)
    assert check_transfer(weak, moved).verdict == "WARN"


def test_saved_images_are_what_was_found(network, test_images, test_labels, tmp_path):
    result = run_attack(network, test_images, test_labels, epsilon="8/255", steps=3)
    accuracy = save_adversarial(result, network, tmp_path / "found.npz")
    with np.load(tmp_path / "found.npz") as found:
        assert np.array_equal(found["adversarial"], result.adversarial.numpy())
        assert found["images"].dtype == np.uint8
        assert found["images"].shape == (300, 8, 8)
        difference = found["images"] / 255 - result.adversarial.numpy()[:, 0]
        assert np.abs(difference).max() <= 0.5 / 255 + 1e-6
        predictions = predict_logits(network, torch.tensor(found["images"])[:, None]).argmax(1)
        assert float((predictions == test_labels).double().mean()) == accuracy == found["accuracy_after_rounding"]
        assert found["broken_by"].tolist() == result.broken_by
    with pytest.raises(AttackError, match="cannot be written"):
        save_adversarial(result, network, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["pgd", "apgd-t", "mifgsm", "square", "fab-t", "rfgsm"])
def test_neither_batch_size_nor_order_nor_subset_nor_threads_change_a_sample(network, test_images, test_labels, attack):
    own = {"square": {"queries": 40}, "rfgsm": {}}.get(attack, {"steps": 5})
    settings = {"attack": attack, "epsilon": 0.06, "seed": 3, **own}
    whole = run_attack(network, test_images, test_labels, **settings)
    small = run_attack(network, test_images, test_labels, batch_size=33, **settings)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))[:120]
    part = run_attack(network, test_images[order], test_labels[order], sample_ids=order, **settings)
    torch.set_num_threads(2)
    try:
        threads = run_attack(network, test_images, test_labels, **settings)
    finally:
        torch.set_num_threads(1)
    # A sample on the very boundary may fall to either side as sums are rounded in another order.
    assert int((small.broken != whole.broken).sum()) <= 1
    assert int((part.broken != whole.broken[order]).sum()) <= 1
    assert int((threads.broken != whole.broken).sum()) <= 1


def test_the_frozen_copy_changes_no_outcome(network, test_images, test_labels):
    for attack in ("pgd", "apgd-ce"):
        with_copy, without = (
            run_attack(network, test_images, test_labels, attack, epsilon=0.06, steps=8, frozen=frozen)
            for frozen in (True, False)
        )
        assert (with_copy.options["frozen"], without.options["frozen"]) == (True, False)
        assert int((with_copy.broken != without.broken).sum()) <= 2


def test_convolutions_are_packed(network, test_images, test_labels, register):
    seen = []
    register("looks", lambda problem: seen.append(type(problem.model)))
    run_attack(network, test_images, test_labels, "looks", epsilon=0.06)
    assert seen == [Packed]


@pytest.mark.parametrize("changed", ["logits", "gradients", "shape"])
def test_packed_convolutions_that_come_to_something_else_are_not_used(
    network, test_images, test_labels, register, monkeypatch, changed
):
    class Wrong(Packed):
        def forward(self, images):
            logits = super().forward(images)
            if changed == "logits":
                return logits * 1.001
            return logits[:, :3] if changed == "shape" else (logits + logits.detach()) / 2

    seen = []
    monkeypatch.setattr("robustprune.inference.frozen.Packed", Wrong)
    register("looks", lambda problem: seen.append(type(problem.model)))
    run_attack(network, test_images, test_labels, "looks", epsilon=0.06)
    assert len(seen) == 1
    assert not issubclass(seen[0], Packed)


def test_a_network_that_cannot_be_copied_is_attacked_itself(network, test_images, test_labels):
    class Holds(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network
            self.lock = threading.Lock()  # which deepcopy refuses

        def forward(self, images):
            return self.network(images)

    with pytest.warns(ModelWarning, match="the model itself is used"):
        result = run_attack(Holds(), test_images, test_labels, epsilon=0.06, steps=4)
    assert result.options["frozen"] is False
    plain = run_attack(network, test_images, test_labels, epsilon=0.06, steps=4, frozen=False)
    assert torch.equal(result.broken, plain.broken)


def test_what_only_the_copy_takes_for_broken_is_attacked_again(network, test_images, test_labels, monkeypatch):
    biased = copy.deepcopy(network)
    biased[-1].bias.data[int(test_labels.mode().values)] -= 1.5
    monkeypatch.setattr("robustprune.attacks.engine.chunk_runner.accelerate", lambda network, images: biased)
    result = run_attack(network, test_images, test_labels, epsilon=0.06, steps=8)
    monkeypatch.undo()
    honest = run_attack(network, test_images, test_labels, epsilon=0.06, steps=8)
    assert int((honest.broken & ~result.broken).sum()) <= 3
    with torch.no_grad():
        assert torch.equal(network(result.adversarial).argmax(1) != test_labels, result.broken)


def test_batches_are_halved_when_memory_runs_out(network, test_images, test_labels):
    class Hungry(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, images):
            if len(images) > 40:
                raise torch.OutOfMemoryError("out of memory")
            return self.network(images)

    plain = run_attack(network, test_images, test_labels, epsilon=0.06, steps=4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = run_attack(Hungry(), test_images, test_labels, epsilon=0.06, steps=4)
    assert [str(each.message).split(";")[0] for each in caught] == [
        f"memory ran out on {size} samples at once" for size in (256, 128, 64)
    ]
    assert torch.equal(result.broken, plain.broken)
    assert result.gradient_evaluations == plain.gradient_evaluations


def test_every_sample_is_computed_once_when_batches_are_halved():
    seen = []

    def work(part):
        if part.stop - part.start > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        seen.extend(range(21)[part])

    with warnings.catch_warnings(action="ignore", category=ModelWarning):
        Batches(16).run(21, work)
    assert seen == list(range(21))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    with pytest.raises(MemoryError):
        Batches(1).run(2, lambda part: (_ for _ in ()).throw(MemoryError()))


@pytest.mark.slow
def test_targets_are_reached(network, test_images, test_labels):
    labels = network(test_images).argmax(1)
    targets = (labels + 3) % 10
    for attack in ("pgd", "apgd-ce", "square", "mifgsm", "fgsm"):
        result = run_attack(network, test_images, labels, attack, epsilon=0.3, targets=targets)
        assert torch.equal(result.broken, result.adversarial_predictions == targets)
        assert result.valid
        if attack == "pgd":
            assert result.robust_accuracy < 0.3
    with pytest.raises(AttackError, match="takes no targets"):
        run_attack(network, test_images, labels, "apgd-t", targets=targets)
    with pytest.raises(AttackError, match="300 targets are the samples' own labels"):
        run_attack(network, test_images, labels, targets=labels)


@pytest.mark.slow
def test_every_builtin_attack_leaves_the_generators_alone(network, test_images, test_labels):
    before = torch.get_rng_state()
    for name in ATTACKS.names():
        if name not in ("torchattacks", "foolbox", "autoattack", "medium", "strong", "square"):
            norm = getattr(get_attack(name), "norms", ("linf",))[0]
            run_attack(network, test_images[:20], test_labels[:20], name, norm=norm)
    assert torch.equal(torch.get_rng_state(), before)
