"""The frozen copy against the network itself, which it must equal without having touched it."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable

import pytest
import torch
from support import Shape
from torch import Tensor, nn

from robustprune.errors import ModelError, ModelWarning
from robustprune.inference import freeze
from robustprune.models import build_model
from robustprune.pruning import find_blocks, remove_blocks

SHAPE = Shape(image_size=(16, 16), num_classes=5)
IMAGES = torch.rand(7, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def with_statistics(network: nn.Module) -> nn.Module:
    """Return the network with normalizations as after training: none is close to the identity."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            if module.affine:
                nn.init.uniform_(module.weight, -1.5, 1.5, generator=generator)
                nn.init.normal_(module.bias, 0, 0.2, generator=generator)
    return network


def build(name: str, shape: Shape = SHAPE) -> nn.Module:
    return with_statistics(build_model(name, shape))


def normalizations(network: nn.Module) -> int:
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def logits_and_gradient(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    leaf = images.clone().requires_grad_()
    logits = network(leaf)
    (gradient,) = torch.autograd.grad(logits.square().sum(), leaf)
    return logits.detach(), gradient


def check_equal(frozen: nn.Module, network: nn.Module, images: Tensor = IMAGES, tolerance: float = 1e-5) -> None:
    expected = logits_and_gradient(copy.deepcopy(network).eval(), images)
    for found, wanted in zip(logits_and_gradient(frozen, images), expected, strict=True):
        assert float((found - wanted).abs().max()) <= tolerance * float(wanted.abs().max())


def quietly_frozen(network: nn.Module, example: Tensor | None = None) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return freeze(network, example)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("resnet32", 33, 0),
        # A block's first normalization receives a sum, and the last one too; the very first follows the stem alone.
        ("wrn-16-4", 13, 6),
    ],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_copy_equals_the_network(name: str, before: int, after: int, dtype: torch.dtype, tolerance: float) -> None:
    network = build(name).to(dtype)
    frozen = quietly_frozen(network)
    assert (normalizations(network), normalizations(frozen)) == (before, after)
    for size in (1, 3, 7):
        check_equal(frozen, network, IMAGES[:size].to(dtype), tolerance)


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_folding_by_hand(dimension: int, bias: bool, affine: bool) -> None:
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimension - 1](2, 4, 3, padding=1, groups=2, bias=bias)
    normalization = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dimension - 1](4, affine=affine, eps=0.1)
    linear, last = nn.Linear(4 * 6**dimension, 3, bias=bias), nn.BatchNorm1d(3, affine=affine)
    network = with_statistics(nn.Sequential(convolution, normalization, nn.ReLU(), nn.Flatten(), linear, last))
    images = torch.rand(4, 2, *[6] * dimension)
    frozen = quietly_frozen(network, images)
    assert normalizations(frozen) == 0
    scale = (normalization.running_var + 0.1) ** -0.5 * (normalization.weight if affine else 1)
    shift = (0 if convolution.bias is None else convolution.bias) - normalization.running_mean
    expected = shift * scale + (normalization.bias if affine else 0)
    torch.testing.assert_close(frozen[0].bias, expected, check_stride=False, rtol=1e-5, atol=1e-6)
    check_equal(frozen, network, images)


def test_adapted_and_pruned_networks_are_folded() -> None:
    mobile = build("torchvision:mobilenet_v2", Shape(image_size=(32, 32), num_classes=5))
    assert normalizations(quietly_frozen(mobile)) == 0
    dense = build("resnet20")
    removed = {block.name: block.residue for block in find_blocks(dense) if block.position == 1}
    ticket = remove_blocks(dense, removed)
    frozen = quietly_frozen(ticket)
    assert normalizations(frozen) == 0
    check_equal(frozen, ticket)


@pytest.mark.needs("timm")
def test_normalization_that_holds_an_activation_is_folded_and_the_activation_stays() -> None:
    efficient = build("timm:efficientnet_b0", Shape(image_size=(32, 32), num_classes=5))
    frozen = quietly_frozen(efficient)
    assert normalizations(frozen) == 0
    check_equal(frozen, efficient, torch.rand(3, 3, 32, 32), 1e-4)


def test_copy_is_frozen_and_channels_last() -> None:
    frozen = quietly_frozen(build("resnet20").train())
    assert not any(module.training for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    convolutions = [module for module in frozen.modules() if isinstance(module, nn.Conv2d)]
    assert all(module.weight.is_contiguous(memory_format=torch.channels_last) for module in convolutions)
    with torch.no_grad():
        assert not frozen(IMAGES).requires_grad


def test_frozen_in_inference_mode_it_still_has_gradients() -> None:
    network = build("resnet20")
    with torch.inference_mode():
        frozen = quietly_frozen(network, IMAGES)
    check_equal(frozen, network)


def test_the_network_is_left_alone() -> None:
    network = build("resnet20").train()
    network.layer1.eval()
    network.fc.requires_grad_(False)
    nn.functional.cross_entropy(network(IMAGES), torch.zeros(7, dtype=torch.int64)).backward()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    gradients = {name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None}
    flags = [weight.requires_grad for weight in network.parameters()]
    modes = [module.training for module in network.modules()]
    generator = torch.get_rng_state()
    images = IMAGES.clone()
    frozen = quietly_frozen(network, images)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(torch.equal(dict(network.named_parameters())[name].grad, gradients[name]) for name in gradients)
    assert [weight.requires_grad for weight in network.parameters()] == flags
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(images, IMAGES)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in [*network.modules()])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in [*frozen.modules()])
    own = {weight.data_ptr() for weight in network.parameters()}
    assert not own & {weight.data_ptr() for weight in frozen.parameters()}


class Small(nn.Module):
    """A convolution, what a test makes of its maps, and a linear layer."""

    def __init__(self, forward: Callable[[Small, Tensor], Tensor], channels: int = 4) -> None:
        super().__init__()
        self.conv, self.other = (nn.Conv2d(3, channels, 3, padding=1) for _ in range(2))
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(channels, 3)
        self.tokens = nn.BatchNorm1d(channels)
        self.listed = [self.bn1]
        self.features = forward
        with_statistics(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(self, images).mean(dim=(2, 3)))


def written_into(net: Small, images: Tensor) -> Tensor:
    maps = net.conv(images)
    maps += 1
    return net.bn1(maps)


def tokens(net: Small, images: Tensor) -> Tensor:
    # As many tokens as channels: the shapes do not tell which of them the normalization is about.
    scores = net.fc.weight.new_ones(len(images), 4, 4)
    return net.tokens(net.projection(scores)).unsqueeze(-1) + images.mean()


@pytest.mark.parametrize(
    ("forward", "left"),
    [
        (lambda net, images: net.bn1(maps := net.conv(images)) + maps, 1),  # read elsewhere, afterwards
        (lambda net, images: net.bn1(net.conv(images)) + net.bn2(net.conv(images)), 2),  # a convolution run twice
        (lambda net, images: net.bn1(maps := net.conv(images)) + net.bn2(maps), 2),  # shared by two normalizations
        (lambda net, images: net.bn1(net.conv(images)) + net.bn1(net.other(images)), 1),  # a normalization run twice
        (lambda net, images: net.bn1(net.conv(images)) + net.conv.weight.sum(), 1),  # weights read elsewhere
        (lambda net, images: net.bn1(net.conv(images).relu()), 1),  # something in between
        (written_into, 1),
        (lambda net, images: net.relu(net.bn1(net.conv(images))) + net.relu(net.bn2(net.other(images))), 0),
    ],
)
def test_only_what_follows_alone_is_folded(forward: Callable[[Small, Tensor], Tensor], left: int) -> None:
    network = Small(forward)
    used = 2 if left == 2 or "bn2" in forward.__code__.co_names else 1
    frozen = quietly_frozen(network, IMAGES)
    assert normalizations(frozen) == normalizations(network) - used + left
    check_equal(frozen, network)


def test_tokens_are_not_channels() -> None:
    network = Small(tokens)
    network.projection = nn.Linear(4, 4)
    frozen = quietly_frozen(network, IMAGES)
    assert normalizations(frozen) == normalizations(network)
    check_equal(frozen, network)


def test_statistics_of_the_batch_are_not_folded() -> None:
    normalization = nn.BatchNorm2d(4, track_running_stats=False)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), normalization, nn.ReLU(), nn.Flatten(), nn.Linear(784, 3))
    frozen = quietly_frozen(network, IMAGES)
    assert normalizations(frozen) == 1
    check_equal(frozen, network)


def test_a_layer_with_hooks_keeps_its_normalization() -> None:
    network = Small(lambda net, images: net.bn1(net.conv(images)))
    network.conv.register_forward_hook(lambda _module, _inputs, output: 2 * output)
    frozen = quietly_frozen(network, IMAGES)
    assert normalizations(frozen) == normalizations(network)
    check_equal(frozen, network)


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        # Reached past the network's modules, so that it stays where it was taken out.
        (lambda net, images: net.listed[0](net.conv(images)), "logits of 1 images differ"),
        # Another path for other batches than the one looked at.
        (lambda net, images: (net.bn1 if len(images) < 4 else net.relu)(net.conv(images)), "of 4 images"),
        # What is taken out is asked for.
        (lambda net, images: net.bn1(net.conv(images)) * net.bn1.eps, "AttributeError"),
    ],
)
def test_where_folding_goes_wrong_a_plain_copy_warns(forward: Callable[[Small, Tensor], Tensor], reason: str) -> None:
    network = Small(forward)
    with pytest.warns(ModelWarning, match=reason):
        frozen = freeze(network, IMAGES)
    assert normalizations(frozen) == normalizations(network)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    check_equal(frozen, network, tolerance=1e-6)


def test_a_random_network_is_compared_on_the_same_draws() -> None:
    def noisy(net: Small, images: Tensor) -> Tensor:
        return net.bn1(net.conv(images + torch.rand_like(images)))

    frozen = quietly_frozen(Small(noisy), IMAGES)
    assert normalizations(frozen) == 2


def test_bytes_are_images_too() -> None:
    network = Small(lambda net, images: net.bn1(net.conv(images)))
    frozen = quietly_frozen(network, (255 * IMAGES).byte())
    check_equal(frozen, network)


def test_what_cannot_be_copied_or_run_is_a_clean_error() -> None:
    network = Small(lambda net, images: net.bn1(net.conv(images)))
    with pytest.raises(ModelError, match="give some as example"):
        freeze(network)
    with pytest.raises(ModelError, match="cannot run on images of shape"):
        freeze(network, torch.rand(2, 1, 16, 16))
    network.lock = threading.Lock()
    with pytest.raises(ModelError, match="cannot be copied"):
        freeze(network, IMAGES)
