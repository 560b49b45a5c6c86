"""Memory against hand counts: every tensor that is kept, by name."""

from __future__ import annotations

import copy

import pytest
import torch
from support import Shape
from torch import Tensor, nn

from robustprune.cost import measure_memory
from robustprune.errors import ModelError
from robustprune.models import build_model
from robustprune.models.resnet import ResidualBlock
from robustprune.pruning import find_blocks, remove_blocks

FLOAT = 4  # bytes


@pytest.mark.parametrize("size", [1, 3, 128])
def test_small_network_by_hand(size: int) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(5 * 36, 7)
    )
    memory = measure_memory(network, size, torch.zeros(1, 3, 6, 6))
    images, maps, statistics = 3 * 36, 5 * 36, 2 * 5
    # What the convolution received, what the normalization received, with the mean and deviation of the batch, and
    # what the activation returned, of which flattening makes a view that the linear layer received.
    assert memory.activations == FLOAT * (size * (images + 2 * maps) + statistics)
    # The normalization has both its input and its output, and the caller the images.
    assert memory.inference_activations == FLOAT * size * (images + 2 * maps)
    assert memory.parameters == FLOAT * (5 * 27 + 5 + 2 * 5 + 5 * 36 * 7 + 7)
    assert memory.buffers == FLOAT * 2 * 5 + 8  # and the number of batches, an int64
    assert memory.training == memory.parameters + memory.buffers + memory.activations
    assert memory.inference == memory.parameters + memory.buffers + memory.inference_activations


def test_residual_block_by_hand() -> None:
    memory = measure_memory(nn.Sequential(ResidualBlock(6, 6, 1)), 10, torch.zeros(1, 6, 8, 8))
    maps, statistics = 6 * 64, 4 * 6
    # Kept for the backward pass: the block's input; the outputs of both convolutions and of both activations. The
    # activations write over the outputs of the normalizations, the sum over that of the second.
    assert memory.activations == FLOAT * (10 * 5 * maps + statistics)
    # At most: the block's input, the input and the output of a normalization.
    assert memory.inference_activations == FLOAT * 10 * 3 * maps


def test_a_removed_block_saves_its_own_maps() -> None:
    dense = build_model("resnet20", Shape(image_size=(16, 16)))
    full = measure_memory(dense, 32)
    for block in find_blocks(dense):
        if block.position == 0:
            continue
        channels, side = 16 * 2**block.stage, 16 // 2**block.stage
        found = measure_memory(remove_blocks(dense, {block.name: block.residue}), 32)
        assert full.activations - found.activations == FLOAT * (32 * 4 * channels * side**2 + 4 * channels)
        assert full.parameters - found.parameters == FLOAT * block.parameters
        # The largest moment is in stage 1, with and without the block.
        assert full.inference_activations == found.inference_activations


def saved_at_once(network: nn.Module, images: Tensor) -> int:
    kept: dict[int, int] = {}
    weights = {value.data_ptr() for value in network.state_dict().values()}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = network.train()(images)
    assert logits.requires_grad
    return sum(kept.values())


@pytest.mark.quick_cases(1)
@pytest.mark.parametrize("name", ["wrn-16-4", "torchvision:vit_b_16", "timm:efficientnet_b0"])
def test_the_line_leads_to_what_a_larger_batch_takes(name: str) -> None:
    network = build_model(name, Shape(image_size=(32, 32)))
    assert measure_memory(network, 9).activations == saved_at_once(network, torch.rand(9, 3, 32, 32))


class AllPairs(nn.Module):
    """Compares every image with every other, which takes memory that grows with the square of their number."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.linear(images)
        return logits + (logits @ logits.T).exp().sum(dim=1, keepdim=True)


def test_what_does_not_grow_evenly_is_measured_at_size() -> None:
    memory = measure_memory(AllPairs(), 20, torch.zeros(1, 4))
    # Images, logits and the exponentials of their products.
    assert memory.activations == FLOAT * (20 * 4 + 20 * 3 + 20 * 20)


def test_shared_weights_count_once() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    assert measure_memory(nn.Sequential(first, second), 2, torch.zeros(1, 4)).parameters == FLOAT * (16 + 2 * 4)


def test_double_precision_takes_twice_as_much() -> None:
    network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    single = measure_memory(network, 8, torch.zeros(1, 4))
    double = measure_memory(copy.deepcopy(network).double(), 8, torch.zeros(1, 4))
    assert double.training == 2 * single.training
    assert double.inference == 2 * single.inference


def test_the_network_is_left_alone() -> None:
    network = build_model("resnet20", Shape(image_size=(8, 8))).train()
    network.layer1.eval()
    network.fc.requires_grad_(False)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    generator = torch.get_rng_state()
    measure_memory(network, 8)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert not network.fc.weight.requires_grad
    assert all(weight.grad is None for weight in network.parameters())
    assert torch.equal(torch.get_rng_state(), generator)


class Pair(nn.Linear):
    """Returns two tensors while it trains, as Inception does."""

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        logits = super().forward(images)
        return (logits, logits.exp()) if self.training else logits


def test_auxiliary_outputs_are_saved_too() -> None:
    memory = measure_memory(Pair(4, 3), 2, torch.zeros(1, 4))
    assert memory.activations == FLOAT * 2 * (4 + 3)


def test_what_cannot_be_measured_is_a_clean_error() -> None:
    with pytest.raises(ModelError, match="cannot be measured"):
        measure_memory(nn.Linear(4, 3), 2, torch.zeros(1, 5))
    with pytest.raises(ModelError, match="batch_size 0"):
        measure_memory(nn.Linear(4, 3), 0, torch.zeros(1, 4))
    with pytest.raises(ModelError, match="does not know how it was built"):
        measure_memory(nn.Linear(4, 3))
