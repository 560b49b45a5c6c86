"""Masked weights stay zero, and the others go where they would go with the mask in the forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from robustprune.data import ImageData
from robustprune.errors import TicketError, TrainingError
from robustprune.models import build_model
from robustprune.runtime.randomness import seeded_generator
from robustprune.runtime.work import Work
from robustprune.tickets import prune_weights
from robustprune.tickets.ticket import Ticket, load_ticket
from robustprune.training import Recipe, train, train_to_file


def masked(data: ImageData, criterion: str = "magnitude") -> Ticket:
    model = build_model("resnet20", data, width=4)
    return prune_weights(model, data, criterion, sparsity=0.6)


def quietly(ticket: Ticket, data: ImageData, **options: Any) -> Ticket:
    return train(ticket, data, **{"epochs": 3, "batch_size": 64, "country": None, **options})


class Interrupted(Exception):
    """Stands for whatever ends a run from outside."""


@pytest.mark.parametrize("recipe", ["quick", "paper"])
def test_masked_weights_are_zero_after_every_step(few_digits: ImageData, recipe: str) -> None:
    ticket = masked(few_digits)
    before = {name: value.clone() for name, value in ticket.network.state_dict().items()}
    steps = []

    def look(_what: str, _done: float, _total: float) -> None:
        steps.append(
            sum(int(ticket.network.get_parameter(name)[~mask].count_nonzero()) for name, mask in ticket.masks.items())
        )

    quietly(ticket, few_digits, recipe=recipe, work=Work(progress=look))
    assert steps == [0] * 9
    for name, value in ticket.network.state_dict().items():
        if name in ticket.masks:  # all the others moved
            assert bool((value != before[name])[ticket.masks[name]].all())


def test_the_others_go_as_with_the_mask_in_the_forward_pass(few_digits: ImageData, tmp_path: Path) -> None:
    """Two epochs against a loop written out; a smooth network, since a kink would amplify rounding."""
    code = tmp_path / "smooth.py"
    code.write_text(
        "from torch import nn\nnet = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))\n"
    )
    recipe = Recipe("quick", epochs=2, batch_size=32, augmentation="none")
    ticket = prune_weights(build_model(f"file:{code}:net", few_digits), few_digits, "random", sparsity=0.5)
    dense = build_model(f"file:{code}:net", few_digits)
    train(ticket, few_digits, recipe=recipe, country=None)

    part = few_digits.require("train")
    steps = len(part) // 32
    # Leaves that are never masked themselves: only what the network computes with is.
    leaves = {name: value.detach().clone().requires_grad_(True) for name, value in dense.named_parameters()}
    velocity = {name: torch.zeros_like(value) for name, value in leaves.items()}
    shares = {name: ticket.masks.get(name, torch.ones(())).float() for name in leaves}
    for epoch in range(2):
        order = torch.randperm(len(part), generator=seeded_generator(0, "epoch", epoch))[: steps * 32]
        for step, rows in enumerate(order.split(32)):
            weights = {name: value * shares[name] for name, value in leaves.items()}
            logits = torch.func.functional_call(dense, weights, (part.images[rows].float() / 255,))
            loss = nn.functional.cross_entropy(logits, part.labels[rows], label_smoothing=0.1)
            slopes = torch.autograd.grad(loss, list(leaves.values()))
            rate = recipe.learning_rate_at((epoch + step / steps) / 2)
            with torch.no_grad():
                for (name, value), slope in zip(leaves.items(), slopes, strict=True):
                    gradient = slope + 5e-4 * value
                    velocity[name] = 0.9 * velocity[name] + gradient
                    value -= rate * (gradient + 0.9 * velocity[name])
    for name, value in ticket.network.named_parameters():
        torch.testing.assert_close(value, leaves[name] * shares[name], rtol=1e-4, atol=1e-6)


@pytest.mark.quick_cases(1)
@pytest.mark.parametrize("steps", [2, 3, 5])
def test_interrupted_and_resumed_is_bit_identical(few_digits: ImageData, tmp_path: Path, steps: int) -> None:
    expected = quietly(masked(few_digits), few_digits)
    left = [steps]

    def stop(_what: str, _done: float, _total: float) -> None:
        left[0] -= 1
        if not left[0]:
            raise Interrupted

    options = {"epochs": 3, "batch_size": 64, "country": None}
    out = tmp_path / "out.pt"
    with pytest.raises(Interrupted):
        train_to_file(masked(few_digits), few_digits, out, work=Work(progress=stop), **options)
    resumed = train_to_file(masked(few_digits), few_digits, out, resume=True, **options)
    assert resumed.sha256 == expected.sha256
    found = load_ticket(out)
    assert all(torch.equal(mask, expected.masks[name]) for name, mask in found.masks.items())
    written = out.stat().st_mtime_ns
    train_to_file(masked(few_digits), few_digits, out, resume=True, **options)
    assert out.stat().st_mtime_ns == written


def test_another_mask_is_another_run(few_digits: ImageData, tmp_path: Path) -> None:
    work = Work(folder=tmp_path)
    first, second = masked(few_digits), masked(few_digits)
    # One weight that is zero but kept in the second: equal weights, and yet they train differently.
    second.masks["conv1.weight"] = second.masks["conv1.weight"].clone()
    second.masks["conv1.weight"].view(-1)[int((~first.masks["conv1.weight"]).view(-1).nonzero()[0])] = True
    assert first.sha256 == second.sha256
    quietly(first, few_digits, work=work, epochs=1)
    with pytest.raises(TrainingError, match=r"belongs to another run: masks was '\w+', is '\w+'"):
        quietly(second, few_digits, work=work, epochs=1)


def test_weights_outside_the_masks_are_refused_before_training(few_digits: ImageData) -> None:
    ticket = masked(few_digits)
    with torch.no_grad():
        ticket.network.get_parameter("fc.weight").add_(1)
    with pytest.raises(TicketError, match=r"weights of fc\.weight outside its mask are not zero"):
        quietly(ticket, few_digits)
