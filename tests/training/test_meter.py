"""The speed of training steps of two networks, side by side."""

from __future__ import annotations

import pytest
import torch
from support import Shape

from robustprune.models import build_model
from robustprune.training import measure_training_speedup

SHAPE = Shape(channels=1, image_size=(8, 8))


@pytest.mark.slow
def test_a_shallow_network_trains_faster_than_a_deep_one() -> None:
    shallow, deep = (build_model(name, SHAPE, width=4) for name in ("resnet20", "resnet110"))
    found = measure_training_speedup(shallow, deep, batch_size=8, seconds=0)
    # 20 layers against 110; what a step costs besides is the same.
    assert 2 < found["median"] < 8
    assert found.keys() == {"median", "iqr", "repeats", "batch_size", "threads", "device"}
    assert (found["batch_size"], found["repeats"], found["device"]) == (8, 5, "cpu")


def test_the_networks_are_left_alone() -> None:
    network = build_model("resnet20", SHAPE, width=4)
    network.fc.requires_grad_(False)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    generator = torch.get_rng_state()
    measure_training_speedup(network, network, batch_size=4, seconds=0)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not network.fc.weight.requires_grad
    assert not network.training
    assert all(weight.grad is None for weight in network.parameters())
    assert torch.equal(torch.get_rng_state(), generator)
