"""Distillation: the loss of the papers, what decides a run, and that the teacher is learnt from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from support import Run, check_failure
from torch import nn
from torch.nn import functional as F

from robustprune.data import ImageData, as_data
from robustprune.errors import TrainingError
from robustprune.inference import predict_logits
from robustprune.models import build_model
from robustprune.tickets.ticket import Ticket, load_ticket
from robustprune.training import Recipe, train
from robustprune.training.distillation import distilled_loss

HOW: dict[str, Any] = {"epochs": 10, "batch_size": 20, "country": None}


@pytest.fixture(scope="module")
def teacher(few_digits: ImageData) -> Ticket:
    ticket = Ticket.from_model(build_model("resnet20", few_digits, seed=1, width=4), few_digits)
    return train(ticket, few_digits, **HOW)


def _student(data: ImageData) -> Ticket:
    return Ticket.from_model(build_model("resnet20", data, seed=0, width=4), data)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_loss_is_that_of_the_definition(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    own, taught, labels = (
        torch.randn(6, 5, generator=generator),
        torch.randn(6, 5, generator=generator),
        torch.arange(6) % 5,
    )
    recipe = Recipe("quick", distill=0.7, distill_temperature=temperature)
    loss = F.cross_entropy(own, labels)
    found = distilled_loss(loss, own, torch.zeros(6, 1, 2, 2), recipe, Fixed(taught))
    student, known = (log_softmax(each.double().numpy() / temperature, axis=1) for each in (own, taught))
    divergence = (np.exp(known) * (known - student)).sum(axis=1).mean()
    assert float(found) == pytest.approx(0.3 * float(loss) + 0.7 * temperature**2 * divergence, rel=1e-5)
    assert distilled_loss(loss, own, torch.zeros(6, 1, 2, 2), recipe, None) is loss


class Fixed(nn.Module):
    """Logits that do not depend on the images."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits


def test_with_all_the_weight_on_the_teacher_labels_are_not_learnt_from(few_digits: ImageData, teacher: Ticket) -> None:
    train_split, val = few_digits.require("train"), few_digits.require("val")
    student = train(_student(few_digits), few_digits, distill=1.0, teacher=teacher, **HOW)
    alone = train(_student(few_digits), few_digits, **HOW)

    def distance(ticket: Ticket) -> float:
        """Return the mean total variation between a network's answers and the teacher's."""
        shares = [predict_logits(each.network, val.images).softmax(dim=1) for each in (ticket, teacher)]
        return float((shares[0] - shares[1]).abs().sum(dim=1).mean() / 2)

    assert distance(student) < 0.8 * distance(alone)
    assert student.training["teacher"] == teacher.sha256
    labels = train_split.labels.clone()
    try:
        train_split.labels.copy_(labels.roll(1))
        again = train(_student(few_digits), few_digits, distill=1.0, teacher=teacher, **HOW)
    finally:
        train_split.labels.copy_(labels)
    assert again.sha256 == student.sha256


def test_what_does_not_go_together_is_refused(few_digits: ImageData, teacher: Ticket) -> None:
    with pytest.raises(TrainingError, match="needs a teacher"):
        train(_student(few_digits), few_digits, epochs=1, distill=0.5, country=None)
    with pytest.raises(TrainingError, match="weight above 0"):
        train(_student(few_digits), few_digits, epochs=1, teacher=teacher, country=None)
    with pytest.raises(TrainingError, match="distillation and TRADES do not go together"):
        Recipe("quick", distill=0.5, adversarial="trades")
    with pytest.raises(TrainingError, match=r"a teacher is a ticket or a network, not 'dense\.pt'"):
        train(_student(few_digits), few_digits, epochs=1, distill=0.5, teacher="dense.pt", country=None)
    # It would run: its normalization makes three channels of one.
    pictures = torch.randint(256, (20, 3, 8, 8), dtype=torch.uint8)
    coloured = build_model("resnet20", as_data(train=(pictures, torch.arange(20) % 10)), width=4)
    with pytest.raises(TrainingError, match="the teacher cannot be learnt from: digits does not fit"):
        train(_student(few_digits), few_digits, epochs=1, distill=0.5, teacher=coloured, country=None)
    two_classes = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(TrainingError, match="teacher has 2 classes and the network 10"):
        distilled_loss(
            torch.zeros(()), torch.zeros(1, 10), torch.zeros(1, 1, 8, 8), Recipe("quick", distill=0.5), two_classes
        )


def test_a_recipe_without_a_teacher_is_written_as_before() -> None:
    assert not any("distill" in name for name in Recipe("quick").model_dump())
    assert Recipe("quick", distill=0.5).model_dump()["distill"] == 0.5


def test_the_command_line_takes_a_teacher(tmp_path: Path, few_digits: ImageData, teacher: Ticket, run: Run) -> None:
    teacher.save(tmp_path / "dense.pt")
    _student(few_digits).save(tmp_path / "ticket.pt")
    named = ("train", "--model", str(tmp_path / "ticket.pt"), "--epochs", "1", "--no-energy")
    named += ("--adversarial", "pgd", "--eps", ".05")
    run(*named, "--distill", str(tmp_path / "dense.pt"), "--out", str(tmp_path / "out.pt"))
    found = load_ticket(tmp_path / "out.pt").training
    assert (found["recipe"]["distill"], found["teacher"]) == (0.9, teacher.sha256)
    done = run(*named, "--distill-weight", ".5", "--out", str(tmp_path / "no.pt"))
    assert done.code == 1
    assert "needs a teacher to learn from (--distill FILE)" in done.err
    taught = ("--distill", str(tmp_path / "dense.pt"), "--out", str(tmp_path / "no.pt"))
    check_failure(run(*named, "--distill-weight", "0", *taught), 1, "a weight above 0 (--distill-weight)")
    trades = ["trades" if word == "pgd" else word for word in named]
    check_failure(run(*trades, *taught), 1, "distillation and TRADES do not go together")
    check_failure(run(*named, "--distill-temperature", "2", *taught[2:]), 2, "add --distill FILE")
