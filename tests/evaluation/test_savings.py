"""The whole of a network's cost, and what is saved of it."""

from __future__ import annotations

import json

import pytest
import torch
from support import Shape
from torch import nn

import robustprune as rp
from robustprune.cost import Memory, saved_in_training
from robustprune.errors import ModelError
from robustprune.evaluation.cost_summary import describe_cost
from robustprune.models import build_model
from robustprune.pruning import find_blocks, remove_blocks
from robustprune.tickets.ticket import Ticket

SHAPE = Shape(channels=1, image_size=(8, 8))


@pytest.fixture
def dense() -> Ticket:
    return Ticket.from_model(build_model("resnet20", SHAPE, width=4))


@pytest.fixture
def pruned(dense: Ticket) -> Ticket:
    removed = {block.name: block.residue for block in find_blocks(dense.network) if block.position == 1}
    return Ticket(remove_blocks(dense.network, removed), dense.architecture)


def test_one_network_alone(dense: Ticket) -> None:
    found = describe_cost(dense, batch_size=16)
    assert found.keys() == {"parameters", "macs", "filters", "memory_bytes"}
    assert found["memory_bytes"]["batch_size"] == 16
    # Twice the images are twice the activations, but for the statistics of 2 × filters that each batch has once.
    twice = describe_cost(dense, batch_size=32)["memory_bytes"]
    assert 2 * found["memory_bytes"]["activations"] - twice["activations"] == 4 * 2 * found["filters"]


def test_against_the_dense_network(dense: Ticket, pruned: Ticket) -> None:
    pruned.training = {"seconds": 30.0, "energy_kwh": 0.2, "co2_kg": None, "epochs": 3}
    dense.training = {"seconds": 40.0, "energy_kwh": 0.8, "co2_kg": 0.1, "epochs": 3}
    found = describe_cost(pruned, dense)
    assert found["dense"] == describe_cost(dense)
    saved = found["saved_percent"]
    for name in ("parameters", "macs", "filters"):
        assert saved[name] == pytest.approx(100 * (1 - found[name] / found["dense"][name]))
    own, full = found["memory_bytes"], found["dense"]["memory_bytes"]
    assert saved["activations"] == pytest.approx(100 * (1 - own["activations"] / full["activations"]))
    assert (saved["training_seconds"], saved["energy"]) == (pytest.approx(25), pytest.approx(75))
    assert "co2" not in saved
    assert found["training"]["energy_kwh"] == 0.2
    json.dumps(found, allow_nan=False)


def test_a_network_costs_what_its_ticket_does(dense: Ticket, pruned: Ticket) -> None:
    module = nn.Sequential(dense.network)  # which nobody knows
    images = rp.as_data((torch.zeros(10, 8, 8, dtype=torch.uint8), torch.arange(10)))
    assert describe_cost(dense.network) == describe_cost(module, data=images) == describe_cost(dense)
    assert describe_cost(pruned, module) == describe_cost(pruned, dense)
    with pytest.raises(ModelError, match=r"what images it takes; give it the image set \(data=…\)"):
        describe_cost(module)


def test_timed(dense: Ticket, pruned: Ticket) -> None:
    found = describe_cost(pruned, dense, batch_size=8, timed=True, seconds=0)
    assert found["latency_ms"]["batch_size"] == 1
    assert found["batch_latency_ms"]["batch_size"] == 128
    assert found["training_speedup"]["batch_size"] == 8
    assert {"latency", "batch_latency"} <= found["saved_percent"].keys()
    assert found["dense"]["latency_ms"]["median"] > 0
    alone = describe_cost(dense, timed=True, seconds=0)
    assert "training_speedup" not in alone
    assert alone["latency_ms"]["repeats"] >= 5


def test_saved_memory_by_hand() -> None:
    own, dense = Memory(1, 10, 5, 25, 5), Memory(1, 20, 20, 60, 10)
    assert own.saved_percent(dense) == {
        "memory": pytest.approx(100 - 40),
        "activations": pytest.approx(100 - 100 * 25 / 60),
        "inference_memory": pytest.approx(100 - 40),
    }


def test_what_is_not_known_is_left_out() -> None:
    assert saved_in_training({}, {"seconds": 3.0}) == {}
    assert saved_in_training({"energy_kwh": 1.0}, {"energy_kwh": None}) == {}
    assert saved_in_training({"energy_kwh": 0.0}, {"energy_kwh": 2.0}) == {"energy": 100}


@pytest.mark.parametrize(
    ("name", "value", "left"),
    [
        ("device", "cpu", ["energy", "co2", "training_seconds"]),  # as where no device is on record
        ("device", "cuda", []),
        ("epochs", 9, []),
        ("threads", 8, []),
        ("processes", 2, []),
        ("energy_method", "another", ["training_seconds"]),
        ("country", "FRA", ["energy", "training_seconds"]),
    ],
)
def test_trainings_in_other_circumstances_are_not_compared(name: str, value: object, left: list[str]) -> None:
    own = {"energy_kwh": 1.0, "co2_kg": 1.0, "seconds": 1.0, "epochs": 3, "threads": 1, "country": "USA"}
    dense = {figure: 2 * number if isinstance(number, float) else number for figure, number in own.items()}
    assert saved_in_training(own, dense) == {"energy": 50, "co2": 50, "training_seconds": 50}
    assert list(saved_in_training(own | {name: value}, dense)) == left
    assert list(saved_in_training(own, dense | {name: value})) == left
