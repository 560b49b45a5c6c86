from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustprune.attacks.requests import Attacks
from robustprune.data import ImageData, load_data
from robustprune.errors import AttackError, DataError, EvaluationError, ModelError, TicketError, UnknownNameError
from robustprune.evaluation import Evaluation, cost_summary, evaluate
from robustprune.models import build_model
from robustprune.pruning import BlockScores
from robustprune.records import Record, load_record
from robustprune.runtime.work import Work
from robustprune.tickets import prune_layers
from robustprune.tickets.ticket import Ticket
from robustprune.training import train


class Foreign(nn.Module):
    """A plain network with everything that an evaluation could disturb."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(64, classes)
        self.frozen = nn.BatchNorm1d(64).eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.dropout(self.frozen(self.norm(images).flatten(1))))  # type: ignore[no-any-return]


@pytest.fixture
def ticket(digits: ImageData) -> Ticket:
    return Ticket.from_model(build_model("resnet20", digits, width=4), digits)


def figures(record: Record) -> dict[str, Any]:
    """Return what does not depend on the clock."""
    found = record.model_dump(mode="json")
    for part in (found, found["environment"], *found["attacks"]):
        part.pop("seconds", None)
        part.pop("created", None)
        part.get("options", {}).pop("batch_size", None)
    return found


def test_foreign_network(digits: ImageData) -> None:
    network = Foreign()
    record = evaluate(network, digits, attacks=["fgsm"], limit=50)
    assert record.model.architecture == "Foreign"
    assert record.model.plan["method"] == "none"
    assert record.model.path is None
    assert record.model.parameters == 64 * 10 + 10 + 2 + 128
    assert record.model.macs == 640
    assert record.model.removed == []
    assert record.n == 50
    with torch.no_grad():
        images = digits.require("test").images.float() / 255
        expected = network.eval()(images).argmax(dim=1).numpy()
    assert record.samples is not None
    np.testing.assert_array_equal(record.samples["clean_prediction"], expected[record.samples["index"]])


def test_everything_is_left_as_it_was(digits: ImageData) -> None:
    network = Foreign().train()
    network.frozen.eval()
    network.fc.bias.requires_grad_(False)
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    generators = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[union-attr]
    images = digits.require("test").images.clone()
    evaluate(network, digits, attacks=Attacks(["fgsm", "pgd"], steps=2), limit=30, seed=4)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert [parameter.requires_grad for parameter in network.fc.parameters()] == [True, False]
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]
    np.testing.assert_array_equal(np.random.get_state()[1], generators[2])
    assert torch.equal(digits.require("test").images, images)


def test_same_seed_same_record(ticket: Ticket, digits: ImageData) -> None:
    def run(seed: int, batch_size: int = 256) -> Record:
        return evaluate(ticket, digits, attacks=Attacks(["pgd"], steps=2), limit=40, seed=seed, batch_size=batch_size)

    first, again, other = run(1), run(1), run(2)
    assert figures(first) == figures(again)
    assert first.samples is not None
    assert again.samples is not None
    for name, values in first.samples.items():
        np.testing.assert_array_equal(values, again.samples[name])
    assert first.samples_sha256 != other.samples_sha256


def test_limit_keeps_every_class_in_proportion(ticket: Ticket, digits: ImageData) -> None:
    labels = digits.require("test").labels
    counts = {}
    for limit in (10, 100):
        samples = evaluate(ticket, digits, limit=limit, seed=2).samples
        assert samples is not None
        assert len(np.unique(samples["index"])) == limit
        np.testing.assert_array_equal(samples["label"], labels[samples["index"]])
        counts[limit] = np.bincount(samples["label"], minlength=10)
    assert (counts[10] == 1).all()
    shares = torch.bincount(labels).numpy() / len(labels)
    assert np.abs(counts[100] - 100 * shares).max() <= 1
    whole = evaluate(ticket, digits).samples
    assert whole is not None
    np.testing.assert_array_equal(whole["index"], np.arange(len(labels)))


@pytest.mark.parametrize(("limit", "match"), [(3, "at least 10"), (5000, "359 are available"), (0, "limit: .* not 0")])
def test_limits_that_cannot_be(ticket: Ticket, digits: ImageData, limit: int, match: str) -> None:
    with pytest.raises((DataError, EvaluationError), match=match):
        evaluate(ticket, digits, limit=limit)


def test_the_wrong_image_set(ticket: Ticket, digits: ImageData) -> None:
    with pytest.raises(TicketError, match="photo-patches does not fit this resnet20"):
        evaluate(ticket, load_data("photo-patches"))
    with pytest.raises(EvaluationError, match="labels up to 9, the network only 7 outputs"):
        evaluate(Foreign(classes=7), digits)
    with pytest.raises(ModelError, match="cannot run on images of shape"):
        evaluate(Foreign(), load_data("photo-patches"))
    with pytest.raises(EvaluationError, match=r"split: .*'train', not 'tests'"):
        evaluate(ticket, digits, split="tests")
    with pytest.raises(DataError, match="has no train split"):
        evaluate(Foreign(), load_data("noise", image_size=8, channels=1), split="train")


def test_network_that_diverged(ticket: Ticket, digits: ImageData) -> None:
    with torch.no_grad():
        ticket.network.fc.weight.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(EvaluationError, match="diverged"):
        evaluate(ticket, digits, limit=20)


def test_options_nobody_takes(ticket: Ticket, digits: ImageData) -> None:
    with pytest.raises(AttackError, match=r"'stepz' is no option of fgsm or pgd\. Did you mean 'steps'"):
        evaluate(ticket, digits, attacks=Attacks(["fgsm", "pgd"], stepz=3))
    with pytest.raises(AttackError, match="'steps' is no option of fgsm"):
        evaluate(ticket, digits, attacks=Attacks(["fgsm"], steps=3))
    with pytest.raises(AttackError, match="no attack is named that could take 'steps'"):
        evaluate(ticket, digits, attacks=Attacks(steps=3))
    with pytest.raises(UnknownNameError, match="Did you mean 'pgd'"):
        evaluate(ticket, digits, attacks=["pdg"])


def test_each_attack_gets_what_it_takes(ticket: Ticket, digits: ImageData) -> None:
    record = evaluate(ticket, digits, attacks=Attacks(["fgsm", "pgd"], steps=2), limit=20)
    assert [entry.steps for entry in record.attacks] == [None, 2]
    assert "steps" not in record.attacks[0].options


def test_one_name_and_one_budget_need_no_list(ticket: Ticket, digits: ImageData) -> None:
    record = evaluate(ticket, digits, attacks=Attacks("fgsm", epsilons="4/255"), limit=20)
    assert [(entry.name, entry.epsilon) for entry in record.attacks] == [("fgsm", 4 / 255)]


def test_budgets_are_checked_before_any_work(ticket: Ticket, digits: ImageData) -> None:
    with pytest.raises(AttackError, match="forgot /255"):
        evaluate(ticket, digits, attacks=Attacks(["fgsm"], epsilons=[0.1, 8]))
    assert (
        evaluate(ticket, digits, attacks=Attacks(["fgsm"], epsilons=[2], norm="l2"), limit=20).attacks[0].norm == "l2"
    )


@pytest.mark.slow
def test_a_record_says_what_was_asked_so_that_it_can_be_asked_again(
    ticket: Ticket, digits: ImageData, tmp_path: Path
) -> None:
    attacks = Attacks(["fgsm", "pgd"], epsilons="4/255", steps=2)
    asked = Evaluation(limit=20, seed=3, attacks=attacks, corruptions="fog", shift={}, batch_size=64)
    source = attacks.model_copy(update={"transfer_from": ticket.model()})  # which no file can hold
    record = evaluate(ticket, digits, asked, attacks=source)
    record.save(tmp_path / "record.json")
    again = Evaluation(**load_record(tmp_path / "record.json").asked)
    assert again == asked
    found = evaluate(ticket, digits, again)
    assert [entry.robust_accuracy for entry in found.attacks] == [
        entry.robust_accuracy for entry in record.attacks if not entry.name.startswith("transfer:")
    ]
    assert evaluate(ticket, digits, again, limit=30).n == 30


def test_progress_rises_to_its_total(ticket: Ticket, digits: ImageData) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}
    evaluate(
        ticket,
        digits,
        attacks=Attacks(["fgsm", "pgd"], epsilons=[0.01, 0.02], steps=2),
        limit=20,
        work=Work(progress=lambda label, done, total: seen.setdefault(label, []).append((done, total))),
    )
    assert list(seen) == ["accuracy", "fgsm ε=0.01", "fgsm ε=0.02", "pgd ε=0.01", "pgd ε=0.02"]
    for steps in seen.values():
        assert steps == sorted(steps)
        assert steps[-1][0] == steps[-1][1]


def test_the_network_in_the_record(
    few_digits: ImageData, digits: ImageData, ticket: Ticket, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Five passes each are timed in any case; what they take is another test's matter.
    quick = cost_summary.measure_latencies
    monkeypatch.setattr(cost_summary, "measure_latencies", lambda *args, **how: quick(*args, **how | {"seconds": 0}))
    scores = {name: float(place) for place, name in enumerate(["layer1.1", "layer1.2", "layer2.1", "layer2.2"])}
    scores |= {f"{stage}.0": 9.0 for stage in ("layer1",)} | {"layer3.1": -1.0, "layer3.2": 7.0}
    cut = prune_layers(ticket, BlockScores(scores, criterion="random"), blocks=2)
    train(cut, few_digits, epochs=1, country=None)
    found = evaluate(cut, digits, limit=20, latency=True).model
    assert [block.name for block in found.blocks] == [f"layer{s}.{i}" for s in (1, 2, 3) for i in range(3)]
    assert [block.stage for block in found.blocks] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [block.name for block in found.blocks if block.removed] == ["layer1.1", "layer3.1"]
    assert [block.name for block in found.blocks if not block.eligible] == ["layer1.0", "layer2.0", "layer3.0"]
    assert {block.name: block.score for block in found.blocks if block.score is not None} == scores
    assert found.history == cut.history
    for timed, size in ((found.latency_ms, 1), (found.batch_latency_ms, 128)):
        assert timed is not None
        assert timed["median"] > 0
        assert timed["batch_size"] == size
    dense = evaluate(ticket, digits, limit=20).model
    assert (dense.blocks, dense.history, dense.latency_ms, dense.batch_latency_ms) == ([], [], None, None)
