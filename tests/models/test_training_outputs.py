"""Networks whose output in training mode is another: found out when they are built, and before training."""

from __future__ import annotations

import warnings
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from support import Run, Shape
from torch import Tensor, nn

from robustprune.data import load_data
from robustprune.errors import ModelError, ModelWarning, TrainingError
from robustprune.models import build_model
from robustprune.models.adapter import AdaptedNetwork
from robustprune.models.trial import check_training
from robustprune.tickets.ticket import Ticket
from robustprune.training import train

SHAPE = Shape(channels=1, image_size=(8, 8), num_classes=10)
FILE = """\
from collections import namedtuple
from dataclasses import dataclass

import torch
from torch import nn

Outputs = namedtuple("Outputs", "logits auxiliary")


@dataclass
class Record:
    logits: torch.Tensor


class Net(nn.Module):
    def __init__(self, num_classes, channels):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(4, num_classes)
        self.auxiliary = nn.Linear(4, num_classes)

    def forward(self, images):
        features = self.body(images).mean((2, 3))
        return self.outputs(features, self.head(features)) if self.training else self.head(features)

    def outputs(self, features, logits):
        return logits


class Tuple(Net):
    def outputs(self, features, logits):
        return logits, self.auxiliary(features)


class Named(Net):
    def outputs(self, features, logits):
        return Outputs(logits, self.auxiliary(features))


class List(Net):
    def outputs(self, features, logits):
        return [logits, features, None]


class FeaturesFirst(Net):
    def outputs(self, features, logits):
        return features, logits


class Dict(Net):
    def outputs(self, features, logits):
        return {"logits": logits}


class Data(Net):
    def outputs(self, features, logits):
        return Record(logits)


class FeaturesByName(Net):
    def outputs(self, features, logits):
        return {"features": features}


class NeedsTargets(Net):
    def outputs(self, features, logits):
        raise KeyError("targets")


class AlwaysData(Net):
    def forward(self, images):
        return Record(self.head(self.body(images).mean((2, 3))))


class AlwaysTuple(Net):
    def forward(self, images):
        return (self.head(self.body(images).mean((2, 3))),)


class SilentModes(Net):
    def eval(self):
        super().eval()

    def train(self, mode=True):
        super().train(mode)


def lazy(num_classes):
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(num_classes))


def frozen_script(num_classes, channels):
    return torch.jit.freeze(torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes)).eval()))


def script(num_classes, channels):
    return torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes)))


def exported(num_classes, channels):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes)).eval()
    sizes = ({0: torch.export.Dim.AUTO},)
    return torch.export.export(network, (torch.rand(2, channels, 8, 8),), dynamic_shapes=sizes).module()


def double(num_classes, channels):
    return Net(num_classes, channels).double()
"""
SEVERAL = ["Tuple", "Named", "List"]
UNUSABLE = {
    "FeaturesFirst": r"the first of what it returns is no logits: it returned torch.float32 of shape \(2, 4\)",
    "FeaturesByName": r"returned dict for two images",
    "NeedsTargets": r"does not run in training mode: KeyError: 'targets'",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "odd_nets.py"
    path.write_text(FILE)
    return path


@pytest.fixture(autouse=True)
def _quiet_about_scripts() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit", category=FutureWarning)
        yield


def build(file: Path, name: str, **options: Any) -> nn.Module:
    return build_model(f"file:{file}:{name}", SHAPE, **options)


def trained(file: Path, name: str) -> Ticket:
    data = load_data("digits", train_limit=40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        ticket = Ticket.from_model(build(file, name), data)
    return train(ticket, data, epochs=1, batch_size=20, country=None)


@pytest.mark.parametrize("name", SEVERAL)
def test_of_several_outputs_the_first_is_trained_and_that_is_said(file: Path, name: str) -> None:
    with pytest.warns(ModelWarning, match=r"returns [23] outputs in training mode; the first is taken"):
        network = build(file, name)
    images = torch.rand(3, 1, 8, 8)
    torch.manual_seed(0)
    expected = network.network.train()(images)[0]  # type: ignore[operator, union-attr]
    torch.manual_seed(0)
    assert torch.equal(network.train()(images), expected)
    # The same network without the others, of the same weights, is trained to the same weights.
    found, plain = (trained(file, each).network.state_dict() for each in (name, "Net"))
    assert all(torch.equal(found[key], value) for key, value in plain.items() if "auxiliary" not in key)


@pytest.mark.parametrize(("name", "complaint"), UNUSABLE.items())
def test_what_cannot_be_trained_is_said_at_once_and_refused_before_training(
    file: Path, name: str, complaint: str
) -> None:
    with pytest.warns(ModelWarning, match=complaint + r".*it can be used, but not trained"):
        network = build(file, name)
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    with pytest.raises(ModelError, match=complaint):
        trained(file, name)


@pytest.mark.parametrize("name", ["Dict", "Data", "AlwaysData", "AlwaysTuple"])
def test_logits_in_an_object_are_trained_as_if_they_came_alone(file: Path, name: str) -> None:
    found, plain = (trained(file, each).network.state_dict() for each in (name, "Net"))
    assert all(torch.equal(found[key], value) for key, value in plain.items() if "auxiliary" not in key)


@pytest.mark.parametrize("name", ["Net", "Tuple", "SilentModes"])
def test_the_trial_leaves_statistics_modes_and_generators_as_they_were(file: Path, name: str) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        network = build(file, name)
    assert torch.equal(torch.get_rng_state(), before)
    statistics = network.network.body[1]  # type: ignore[index, union-attr]
    assert statistics.running_mean.abs().max() == 0
    assert statistics.num_batches_tracked == 0
    assert not any(module.training for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_scripts_are_trained_and_what_has_no_weights_or_no_mode_is_refused(file: Path) -> None:
    assert trained(file, "script").history
    with pytest.raises(TrainingError, match="no weights that can be trained"):
        trained(file, "frozen_script")
    with pytest.raises(ModelError, match="does not run in training mode: NotImplementedError: Calling train"):
        trained(file, "exported")


def test_silent_modes_and_double_precision_are_trained(file: Path) -> None:
    found, plain = (trained(file, each).network.state_dict() for each in ("SilentModes", "Net"))
    assert all(torch.equal(found[key], value) for key, value in plain.items())
    double = trained(file, "double").network.state_dict()
    assert double["network.head.weight"].dtype == torch.float64
    torch.testing.assert_close(double["network.head.weight"].float(), plain["network.head.weight"], rtol=0, atol=1e-4)


def test_lazy_layers_take_their_weights_from_the_seed(file: Path) -> None:
    first, again, other = (build(file, "lazy", seed=seed).state_dict() for seed in (1, 1, 2))
    assert first["network.3.weight"].shape == (10, 4 * 36)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["network.0.weight"], other["network.0.weight"])
    assert first["network.1.num_batches_tracked"] == 0


def test_networks_of_torchvision_with_auxiliary_classifiers() -> None:
    shape = Shape(image_size=(96, 96), num_classes=10)
    with pytest.warns(ModelWarning, match="torchvision:googlenet returns 3 outputs in training mode"):
        network = build_model("torchvision:googlenet", shape, aux_logits=True, init_weights=False)
    assert check_training(network, network.architecture) == 2  # type: ignore[arg-type]
    assert network.train()(torch.rand(2, 3, 96, 96)).shape == (2, 10)


def test_adapters_return_the_logits_alone() -> None:
    outputs = namedtuple("outputs", "other logits")

    class Both(nn.Module):
        def forward(self, images: Tensor) -> Any:
            return outputs(images + 1, images)

    adapted = AdaptedNetwork(Both(), None)
    images = torch.rand(2, 3)
    assert torch.equal(adapted.train()(images), images)
    assert torch.equal(adapted.eval()(images), images)
    assert isinstance(adapted.outputs(images), outputs)


@pytest.mark.filterwarnings("ignore::robustprune.errors.ModelWarning")
def test_on_the_command_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "my_nets.py").write_text(dedent(FILE))
    common = ("--model", "file:my_nets.py:Tuple", "--train-limit", "40", "--epochs", "1", "--no-energy")
    done = run("train", *common, "--out", "ticket.pt")
    assert done.code == 0
    refused = run("train", *common[:1], "file:my_nets.py:FeaturesByName", *common[2:], "--out", "other.pt")
    assert refused.code == 1
    assert "returned dict for two images" in refused.err.replace("\n", " ")
    assert not (tmp_path / "other.pt").exists()
