"""The numbers that a user can expect, on real images; torchattacks as an independent attacker."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from robustprune.attacks.requests import Attacks
from robustprune.data import ImageData, load_data
from robustprune.evaluation import evaluate
from robustprune.models import build_model
from robustprune.pruning import score_blocks
from robustprune.records import Record
from robustprune.tickets import prune_layers
from robustprune.tickets.ticket import Ticket
from robustprune.training import train

pytestmark = pytest.mark.slow
EPSILON, STEPS = 8 / 255, 20
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture(scope="module", autouse=True)
def _more_threads() -> Iterator[None]:
    # Two, unless whoever runs other tests beside these says otherwise.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits_ticket(digits: ImageData) -> Ticket:
    network = build_model("resnet32", digits)
    ticket = prune_layers(network, score_blocks(network, digits, "grasp"), blocks=4, data=digits)
    return train(ticket, digits, recipe="quick", epochs=20, country=None)


@pytest.fixture(scope="module")
def fashion_mnist() -> ImageData:
    if not FASHION_MNIST.is_dir():
        pytest.fail("the slow tests need Fashion-MNIST: apt-get install dataset-fashion-mnist")
    return load_data("fashion-mnist", image_size=14, train_limit=20_000)


@pytest.fixture(scope="module")
def fashion_network(fashion_mnist: ImageData) -> Ticket:
    dense = Ticket.from_model(build_model("resnet20", fashion_mnist), fashion_mnist)
    return train(dense, fashion_mnist, recipe="quick", epochs=6, country=None)


def attacked(ticket: Ticket, data: ImageData, limit: int | None, **options: float) -> Record:
    return evaluate(
        ticket, data, attacks=Attacks(["fgsm", "pgd"], epsilons=[EPSILON], steps=STEPS, **options), limit=limit
    )


def torchattacks_pgd(ticket: Ticket, data: ImageData, record: Record, step_size: float) -> float:
    """Return the robust accuracy that torchattacks' PGD finds on the samples of a record."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old release of requests complains on import
        import torchattacks
    part = data.require("test")
    rows = torch.from_numpy(record.samples["index"])
    images, labels = part.take(rows).float() / 255, part.labels[rows]
    torch.manual_seed(0)
    model = ticket.model()
    attack = torchattacks.PGD(model, eps=EPSILON, alpha=step_size, steps=STEPS, random_start=True)
    correct = 0
    for batch, truth in zip(images.split(250), labels.split(250), strict=True):
        adversarial = attack(batch, truth)
        with torch.no_grad():
            correct += int((model(adversarial).argmax(dim=1) == truth).sum())
    return correct / len(labels)


def assert_attacks_are_strong(ticket: Ticket, data: ImageData, limit: int | None) -> None:
    for options in ({}, {"step_size": 2 / 255}):
        record = attacked(ticket, data, limit, **options)
        fgsm, pgd = record.attacks
        assert fgsm.valid
        assert pgd.valid
        assert pgd.robust_accuracy <= fgsm.robust_accuracy <= record.clean.accuracy
        width = pgd.interval[1] - pgd.interval[0]
        assert pgd.robust_accuracy <= torchattacks_pgd(ticket, data, record, 2 / 255) + width


def test_digits_ticket_learns_in_twenty_epochs(digits_ticket: Ticket, digits: ImageData) -> None:
    assert len(digits_ticket.plan.removed) == 4
    assert evaluate(digits_ticket, digits).clean.accuracy >= 0.98


def test_fashion_mnist_network_learns_in_six_epochs(fashion_network: Ticket, fashion_mnist: ImageData) -> None:
    record = evaluate(fashion_network, fashion_mnist)
    assert record.n == 10_000
    assert record.clean.accuracy >= 0.86


def test_pgd_is_strong_on_digits(digits_ticket: Ticket, digits: ImageData) -> None:
    assert_attacks_are_strong(digits_ticket, digits, None)


def test_pgd_is_strong_on_fashion_mnist(fashion_network: Ticket, fashion_mnist: ImageData) -> None:
    assert_attacks_are_strong(fashion_network, fashion_mnist, 1000)
