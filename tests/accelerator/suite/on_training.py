"""Training on the accelerator: what comes out, where it is, how it is resumed, and how often the host waits."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from pretend import NAME, counting
from torch import nn

import robustprune as rp
from robustprune.data import ImageData
from robustprune.runtime.work import Work
from robustprune.tickets.ticket import Ticket

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "augmix": {"augmentation": "augmix"},
    "consistent": {"augmentation": "augmix", "consistency": 12.0},
    "corruptions": {"augmentation": "corruptions"},
    "fgsm": {"adversarial": "fgsm"},
    "pgd": {"adversarial": "pgd", "adversarial_steps": 2},
    "trades": {"adversarial": "trades", "adversarial_steps": 2},
}
SETTINGS: dict[str, Any] = {"epochs": 2, "batch_size": 36, "country": None, "seed": 5}


def losses(ticket: Ticket) -> list[dict[str, Any]]:
    dropped = ("seconds", "images_per_second")
    return [{name: value for name, value in entry.items() if name not in dropped} for entry in ticket.history]


def pruned(model: nn.Module, data: ImageData) -> Ticket:
    return rp.prune_layers(model, rp.score_blocks(model, data, "random"), blocks=1, data=data)


def weights(ticket: Ticket) -> dict[str, torch.Tensor]:
    return dict(ticket.network.state_dict())


@pytest.mark.parametrize("case", CASES)
def test_training(case: str, model: nn.Module, data: ImageData, same: Any) -> None:
    here, there = (
        rp.train(pruned(model, data), data, device=device, **{**SETTINGS, "epochs": 1, **CASES[case]})
        for device in ("cpu", NAME)
    )
    same(losses(here), losses(there))
    same(weights(here), weights(there))
    assert next(there.network.parameters()).device.type == "cpu"
    assert there.training["device"] == NAME


def test_a_masked_ticket_keeps_its_masks(model: nn.Module, data: ImageData, same: Any) -> None:
    tickets = [rp.prune_weights(model, data, "magnitude", sparsity=0.5) for _ in range(2)]
    here, there = (
        rp.train(ticket, data, device=device, **SETTINGS) for ticket, device in zip(tickets, ("cpu", NAME), strict=True)
    )
    there.check_masks()
    same(weights(here), weights(there))


def test_a_ticket_is_back_where_it_was(model: nn.Module, data: ImageData) -> None:
    ticket = pruned(model, data)
    ticket.network.to(NAME)
    rp.train(ticket, data, **SETTINGS)
    assert ticket.training["device"] == NAME
    assert {tensor.device.type for tensor in ticket.network.state_dict().values()} == {NAME}
    rp.train(ticket, data, device="cpu", **SETTINGS)
    assert {tensor.device.type for tensor in ticket.network.state_dict().values()} == {NAME}


@pytest.mark.parametrize("case", ["plain", "pgd"])
def test_an_interrupted_training_goes_on(case: str, model: nn.Module, data: ImageData, tmp_path: Path) -> None:
    how: dict[str, Any] = {**SETTINGS, **CASES[case], "device": NAME}
    whole = rp.train(pruned(model, data), data, **how)

    def stop(_label: str, done: float, _total: float) -> None:
        if done > 4:  # in the second epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rp.train(pruned(model, data), data, **how, work=Work(progress=stop, folder=tmp_path))
    resumed = rp.train(pruned(model, data), data, **how, work=Work(folder=tmp_path))
    assert resumed.sha256 == whole.sha256
    assert losses(resumed) == losses(whole)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_precisions_that_it_lacks(precision: str, model: nn.Module, data: ImageData) -> None:
    ticket = pruned(copy.deepcopy(model).float(), data)
    with pytest.raises(rp.RobustPruneError, match=f"the device '{NAME}' cannot train in {precision}: .* Train in"):
        rp.train(ticket, data, device=NAME, precision=precision, **SETTINGS)
    assert not ticket.history


class Dropping(nn.Module):
    """Draws from the process-wide generators in training."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)  # type: ignore[no-any-return]


def test_a_network_that_draws_leaves_the_callers_draws_alone(data: ImageData, same: Any) -> None:
    network = Dropping()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    here, there = (rp.train(network, data, device=device, **SETTINGS) for device in ("cpu", NAME))
    assert torch.equal(torch.rand(3), expected)
    same(weights(here), weights(there))
    assert next(network.parameters()).device.type == "cpu"


STEP = (
    "training/epoch.py",
    "training/adversarial_training.py",
    "training/augmented_views.py",
    "data/augmentation.py",
    "data/splits.py",
    "pruning/masks.py",
)
"""Where a step is taken."""


@pytest.mark.parametrize("case", ["masked", *(name for name in CASES if name != "corruptions")])
def test_a_step_waits_at_most_twice(case: str, model: nn.Module, data: ImageData) -> None:
    """Corrupted images are made on the processor, which every step with them waits for."""
    waits = []
    for size in (12, 24):  # ten steps, or five
        ticket = rp.prune_weights(model, data, "magnitude", sparsity=0.5) if case == "masked" else model
        with counting() as counted:
            settings = {**SETTINGS, "epochs": 1, "batch_size": size} | CASES.get(case, {})
            rp.train(ticket, data, device=NAME, **settings)
            waits.append(sum(counted.in_files(*STEP)))
    assert waits[0] - waits[1] <= 2 * 5
