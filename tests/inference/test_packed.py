"""A program of packed convolutions computes what the network does, and its gradients; autograd is the oracle."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from support import Shape
from torch import nn

from robustprune.inference import accelerate, freeze, shared_copies
from robustprune.inference.packed import Packed
from robustprune.models import build_model

N, SIZE = 5, 16


class Mixed(nn.Module):
    """Strides, groups, dilation, kernels of several sizes, sums of every kind, and maps that are read twice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 24, 5, padding=2)  # many for one channel, few for three
        self.squeeze = nn.Conv2d(24, 8, 1)
        self.same = nn.Conv2d(8, 8, 3, padding="same", dilation=2, bias=False)
        self.valid = nn.Conv2d(8, 8, (1, 3), padding="valid")
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.wide = nn.Conv2d(8, 8, 3, padding=3)
        self.down = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.shortcut = nn.Conv2d(8, 12, 1, stride=2)
        self.thin = nn.Conv2d(12, 12, 1, stride=(1, 2), padding=(1, 0))
        self.flat = nn.Conv2d(12, 12, 3, stride=(2, 1), padding=1)
        self.idle = nn.Sequential(nn.Identity(), nn.Dropout(0.5))
        self.act = nn.ReLU(inplace=True)
        self.last = nn.Linear(12, 4)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, images):
        maps = self.squeeze(self.act(self.stem(images)))
        maps = self.act(self.same(maps) + maps)
        maps = maps + self.grouped(self.idle(maps))  # before a ReLU, read by three
        maps = torch.relu(maps) + maps
        maps = self.valid(maps)
        maps = maps + maps
        maps = torch.relu(self.wide(maps))
        maps = torch.relu(self.down(maps) + self.shortcut(maps))
        maps = torch.relu(self.thin(maps))
        return self.last(self.flat(maps).mean(dim=(2, 3)))


class Scaled(nn.Module):
    """One sum of maps of which one is a pixel wide."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(channels, 4, 3, padding=1), nn.Conv2d(4, 4, SIZE)

    def forward(self, images):
        maps = self.first(images)
        return (self.second(maps) + maps).mean(dim=(2, 3))


class Pooled(nn.Module):
    """A layer in the middle that no program knows, and the longer run behind it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.pool = nn.Conv2d(channels, 8, 3, padding=1), nn.MaxPool2d(2)
        self.second, self.third = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 4, 3)

    def forward(self, images):
        maps = self.pool(torch.relu(self.first(images)))
        return self.third(torch.relu(self.second(maps)) + maps).amax(dim=(2, 3))


def resnet(channels: int) -> nn.Module:
    return freeze(build_model("resnet20", Shape(channels, (SIZE, SIZE), 4)))


def ready(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False)


def loss_and_gradient(network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    asked = images.clone().requires_grad_()
    logits = network(asked)
    weights = torch.linspace(-1, 2, logits.numel()).reshape(logits.shape)
    return logits.detach(), torch.autograd.grad((logits * weights).sum(), asked)[0]


@pytest.fixture(params=[1, 3])
def images(request: pytest.FixtureRequest) -> torch.Tensor:
    return torch.rand(N, request.param, SIZE, SIZE)


@pytest.mark.parametrize("build", [resnet, Mixed, Pooled])
def test_logits_and_gradients_are_those_of_autograd(build, images):
    network = ready(build(images.shape[1]))
    packed = Packed(network)
    given = images.clone()
    for some in (images, images[:1], images[:3]):  # weights are packed for the first size, and used for all
        (logits, gradients), found = loss_and_gradient(network, some), loss_and_gradient(packed, some)
        torch.testing.assert_close(found[0], logits, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found[1], gradients, rtol=1e-4, atol=1e-5)
        assert gradients.abs().max() > 1e-3
        with torch.no_grad():
            torch.testing.assert_close(packed(some), logits, rtol=1e-5, atol=1e-5)
    assert torch.equal(images, given)


def test_all_convolutions_of_a_residual_network_are_in_the_program():
    packed = Packed(resnet(1))
    n_convolutions = sum(type(module) is nn.Conv2d for module in packed.network.modules())
    programs = [module for module in packed.modules() if hasattr(module, "steps")]
    assert [sum(step.convolution is not None for step in each.steps) for each in programs] == [n_convolutions]


def test_gradients_of_two_losses_of_one_pass(images):
    network = ready(Mixed(images.shape[1]))
    asked = images.clone().requires_grad_()
    logits, expected = Packed(network)(asked), network(asked)
    for column in (0, 1, 0):
        (found,) = torch.autograd.grad(logits[:, column].sum(), asked, retain_graph=True)
        (wanted,) = torch.autograd.grad(expected[:, column].sum(), asked, retain_graph=True)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_copies_compute_the_same(images):
    packed = Packed(resnet(images.shape[1]))
    for other in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        assert next(other.parameters()) is not next(packed.parameters())
        torch.testing.assert_close(loss_and_gradient(other, images), loss_and_gradient(packed, images))


def test_second_gradients_are_refused(images):
    asked = images.clone().requires_grad_()
    logits = Packed(ready(Mixed(images.shape[1])))(asked)
    (gradient,) = torch.autograd.grad(logits.square().sum(), asked, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_weights_are_shared_and_left_alone(images):
    network = ready(Mixed(images.shape[1]))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    packed = Packed(network)
    loss_and_gradient(packed, images)
    assert packed.network is network
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in packed.parameters())


def test_sums_of_unequal_maps_are_left_to_the_network(images):
    network = accelerate(ready(Scaled(images.shape[1])), images)
    assert not isinstance(network, Packed)
    torch.testing.assert_close(network(images), Scaled.forward(network, images))


def test_networks_without_a_program_are_refused():
    with pytest.raises(ValueError, match="no convolutions in a row"):
        Packed(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval())
    with pytest.raises(ValueError, match="no convolutions in a row"):
        Packed(nn.Sequential(nn.Conv2d(1, 2, 3, padding_mode="reflect", padding=1), nn.Flatten()).eval())


def test_networks_that_hooks_listen_to_are_refused():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()).eval()
    network.register_forward_pre_hook(lambda _module, inputs: (inputs[0] + 1,))
    with pytest.raises(ValueError, match="hooks listen"):
        Packed(network)


def test_networks_that_draw_in_python_are_refused():
    class Draws(nn.Conv2d):
        def forward(self, images):
            return super().forward(images) * float(torch.rand(()))

    with pytest.raises(ValueError, match="draws random numbers"):
        Packed(nn.Sequential(Draws(1, 2, 3), nn.Flatten()).eval())


def test_within_a_block_a_network_is_copied_once() -> None:
    images = torch.rand(4, 3, 8, 8)
    first, second = (build_model("resnet20", Shape(image_size=(8, 8)), width=2).eval() for _ in range(2))
    with shared_copies():
        copy = accelerate(first, images)
        assert copy is not first
        assert accelerate(first, images[:2]) is copy
        with shared_copies():
            assert accelerate(first, images) is copy
        assert accelerate(first, images) is copy
        assert accelerate(second, images) is not copy
    assert accelerate(first, images) is not copy
