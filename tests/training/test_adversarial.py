"""Adversarial training: what the papers define, that it helps, and that it notices when it stops helping."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from support import Run
from torch import Tensor, nn
from torch.nn import functional as F

from robustprune.attacks import run_attack
from robustprune.data import ImageData
from robustprune.errors import TrainingError, TrainingWarning
from robustprune.models import build_model
from robustprune.tickets.ticket import Ticket, load_ticket
from robustprune.training import Recipe, adversarial_training, train
from robustprune.training.adversarial_training import adversarial_loss, watch_robustness

EPSILON = 0.1


class Linear(nn.Module):
    """Two classes whose margin is w·x: the worst point of the ball is known."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: Tensor) -> Tensor:
        score = images.flatten(1) @ self.weight
        return torch.stack([-score / 2, score / 2], dim=1)


@pytest.fixture
def linear() -> tuple[Linear, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = 0.3 + 0.4 * torch.rand(16, 1, 4, 4, generator=generator)
    return Linear(torch.randn(16, generator=generator)), images, torch.arange(16) % 2


@pytest.mark.parametrize("kind", ["pgd", "fgsm"])
def test_the_loss_is_that_of_the_worst_point(linear: tuple[Linear, Tensor, Tensor], kind: str) -> None:
    network, images, labels = linear
    recipe = Recipe("quick", adversarial=kind, epsilon=EPSILON, label_smoothing=0.0)
    with torch.no_grad():
        worst = images + EPSILON * ((1 - 2 * labels)[:, None] * network.weight.sign()).reshape(images.shape)
        expected = float(F.cross_entropy(network(worst), labels))
        clean = float(F.cross_entropy(network(images), labels))
    found, _ = adversarial_loss(network, images, labels, recipe, torch.Generator().manual_seed(1))
    loss = float(found.detach())
    if kind == "pgd":
        assert loss == pytest.approx(expected, rel=1e-5)
    else:  # one step of 1.25 ε from anywhere in the ball ends at least a quarter of ε beyond the image
        assert clean < loss <= expected * (1 + 1e-5)


def test_trades_is_equation_5(linear: tuple[Linear, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    network, images, labels = linear
    recipe = Recipe("quick", adversarial="trades", epsilon=EPSILON, trades_beta=3.0, label_smoothing=0.0)
    climbed: list[Tensor] = []
    climb = adversarial_training._climb
    monkeypatch.setattr(adversarial_training, "_climb", lambda *args: climbed.append(climb(*args)) or climbed[-1])
    loss, _ = adversarial_loss(network, images, labels, recipe, torch.Generator().manual_seed(1))
    with torch.no_grad():
        clean, attacked = network(images).double(), network(climbed[0]).double()
    shares = clean.softmax(1)
    divergence = (shares * (shares.log() - attacked.softmax(1).log())).sum(1).mean()
    assert float(loss.detach()) == pytest.approx(float(F.cross_entropy(clean, labels) + 3 * divergence), rel=1e-4)
    assert float(divergence) > 0.01
    assert (climbed[0] - images).abs().max() <= EPSILON + 1e-6


def test_attacking_leaves_modes_and_statistics_alone(digits: ImageData) -> None:
    network = build_model("resnet20", digits, width=4).train()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    recipe = Recipe("quick", adversarial="pgd", epsilon=EPSILON)
    images, labels = digits.require("train").images[:8].float() / 255, digits.require("train").labels[:8]
    adversarial_training._climb(
        network, images, images, lambda logits: F.cross_entropy(logits, labels, reduction="sum"), recipe, 2.5, 3
    )
    assert all(module.training for module in network.modules())
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pgd", "fgsm", "trades"])
def test_it_makes_networks_more_robust(digits: ImageData, kind: str) -> None:
    test = digits.require("test")
    robust = {}
    for adversarial in ("none", kind):
        ticket = Ticket.from_model(build_model("resnet20", digits, width=8), digits)
        recipe = Recipe(
            "quick", epochs=10, learning_rate=0.05, adversarial=adversarial, epsilon=0.1, adversarial_steps=3
        )
        train(ticket, digits, recipe=recipe, country=None)
        result = run_attack(ticket.model(), test.images, test.labels, epsilon=0.1)
        robust[adversarial] = result.robust_accuracy
        assert ("pgd_accuracy" in ticket.history[-1]) == (adversarial != "none")
    assert robust[kind] > robust["none"] + 0.15


def test_the_same_seed_gives_the_same_network(few_digits: ImageData) -> None:
    hashes = set()
    for _ in range(2):
        ticket = Ticket.from_model(build_model("resnet20", few_digits, width=4), few_digits)
        train(ticket, few_digits, epochs=1, adversarial="fgsm", epsilon=EPSILON, country=None)
        hashes.add(ticket.sha256)
    assert len(hashes) == 1


def test_overfitting_to_one_step_is_called_once(digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = {"fgsm": 0.6, "pgd": 0.2}
    monkeypatch.setattr(
        adversarial_training,
        "run_attack",
        lambda *args, **_: SimpleNamespace(robust_accuracy=accuracies[args[3]]),
    )
    recipe = Recipe("quick", adversarial="fgsm", epsilon=EPSILON)
    network, split = nn.Identity(), digits.require("val")
    history = [{"pgd_accuracy": 0.5}]
    with pytest.warns(TrainingWarning, match="under PGD fell from 50.0% to 20.0%, under FGSM it is 60.0%"):
        history.append(watch_robustness(network, split, recipe, history, 0))
    assert history[-1]["catastrophic_overfitting"]
    history.append(watch_robustness(network, split, recipe, history, 0))  # a second warning would be an error
    # Both falling together is another thing, and so is a network that was never robust.
    accuracies["fgsm"] = 0.25
    assert not watch_robustness(network, split, recipe, [{"pgd_accuracy": 0.5}], 0)["catastrophic_overfitting"]
    accuracies.update(fgsm=0.6, pgd=0.0)
    assert not watch_robustness(network, split, recipe, [], 0)["catastrophic_overfitting"]


def test_what_does_not_go_together() -> None:
    with pytest.raises(TrainingError, match="do not go together"):
        Recipe("quick", augmentation="augmix", consistency=12.0, adversarial="pgd")
    with pytest.raises(TrainingError, match=r"adversarial: .*'pdg'"):
        Recipe("quick", adversarial="pdg")
    with pytest.raises(TrainingError, match=r"epsilon: .*forgot /255"):
        Recipe("quick", adversarial="pgd", epsilon=8)


def test_the_command_line(run: Run) -> None:
    start = ["train", "--model", "resnet20:width=4", "--dataset", "digits", "--epochs", "1"]
    start += ["--no-energy", "--threads", "1", "--out", "trained.pt"]
    assert run(*start, "--eps", "8/255").code == 2
    done = run(*start, "--adversarial", "fgsm", "--eps", "8/255")
    assert done.code == 0, done.err
    assert "under PGD" in done.err
    recipe = load_ticket("trained.pt").training["recipe"]
    assert (recipe["adversarial"], recipe["epsilon"]) == ("fgsm", pytest.approx(8 / 255))
