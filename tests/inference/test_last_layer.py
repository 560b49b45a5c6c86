"""The last layer is known by W·z + b being the logits, on networks written here for the purpose."""

import pytest
import torch
from support import Shape
from torch import nn
from torch.nn import functional as F

from robustprune.inference import catching, find_head
from robustprune.models import build_model, run_model

IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class ConvolutionHead(nn.Module):
    """A fully convolutional classifier: 1×1 convolution, then the mean over places."""

    def __init__(self, activation=None):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 7, 3), nn.ReLU())
        self.classify = nn.Conv2d(7, 5, 1)
        self.activation = activation or nn.Identity()

    def forward(self, images):
        return self.activation(self.classify(self.body(images))).mean(dim=(2, 3))


class TokenHead(nn.Module):
    """Tokens classified one by one, answers averaged; the head is defined first, and used last."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 5, bias=False)
        self.embed = nn.Linear(24, 6)

    def forward(self, images):
        return self.head(torch.tanh(self.embed(images.flatten(2).reshape(len(images), 8, 24)))).mean(dim=1)


class Scaled(nn.Module):
    """Logits divided by a temperature after the last layer."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(192, 9), nn.Linear(9, 5)

    def forward(self, images):
        return self.last(self.first(images.flatten(1)).relu()) / 3


class Cosine(nn.Linear):
    def forward(self, features):
        return F.linear(F.normalize(features), F.normalize(self.weight))


class NoLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 192))

    def forward(self, images):
        return images.flatten(1) @ self.weight.T


def features_of(network, images):
    found = find_head(network, images)
    with catching(found) as caught, torch.no_grad():
        logits = run_model(network, images)
    return found, caught[0], logits


@pytest.mark.parametrize(
    ("network", "width"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 11), nn.ReLU(), nn.Linear(11, 5)), 11),
        (ConvolutionHead(), 7),
        (TokenHead(), 6),
    ],
)
def test_features_and_last_layer_make_the_logits(network, width):
    found, features, logits = features_of(network, IMAGES)
    assert features.shape == (6, width)
    torch.testing.assert_close(found.head(features), logits)


def test_features_are_those_of_the_networks_own_method():
    network = build_model("resnet20", Shape(3, (8, 8), 10), width=4)
    _, features, _ = features_of(network, IMAGES)
    with torch.no_grad():
        torch.testing.assert_close(features, network.forward_features(IMAGES))


@pytest.mark.parametrize(
    "network",
    [Scaled(), ConvolutionHead(nn.ReLU()), nn.Sequential(nn.Flatten(), nn.Linear(192, 9), Cosine(9, 5))],
)
def test_features_without_a_linear_head_where_the_logits_are_none(network):
    found, features, _ = features_of(network, IMAGES)
    assert found.head is None
    assert features.shape == (6, 7 if isinstance(network, ConvolutionHead) else 9)


def test_nothing_to_be_found():
    assert find_head(NoLayer(), IMAGES) is None
    with catching(None) as caught:
        assert caught == []


def test_a_layer_on_a_side_branch_is_not_the_head():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.side = nn.Linear(192, 5), nn.Linear(192, 5)

        def forward(self, images):
            logits = self.head(images.flatten(1))
            self.loss = self.side(images.flatten(1)).sum()
            return logits

    network = Branch()
    assert find_head(network, IMAGES).module is network.head


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, "autocast"])
def test_a_last_layer_that_rounds_is_one(kind):
    torch.manual_seed(0)

    class Casting(nn.Sequential):
        def forward(self, images):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind == "autocast"):
                return super().forward(images)

    network = Casting(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 5))
    network = network if kind == "autocast" else network.to(kind)
    found = find_head(network, IMAGES)
    assert found.module is network[3]
    assert found.head is not None


def test_a_network_of_nan_has_a_last_layer_too():
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 9), nn.Linear(9, 5))
    nn.init.constant_(network[2].weight, float("nan"))
    assert find_head(network, IMAGES).head is not None


def test_the_network_is_left_as_it_was():
    network = ConvolutionHead().train()
    find_head(network, IMAGES)
    assert network.training
    assert not any(module._forward_pre_hooks for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
