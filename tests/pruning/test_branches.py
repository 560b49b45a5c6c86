"""Attention and MLP branches as units of their own, against the same network with a branch's output times zero."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from support import Shape
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torchvision.models import vit_b_16
from transformer_networks import HIDDEN, NETWORKS, WIDTH, Parallel, Transformer, transformer

import robustprune as rp
from robustprune.cost import measure_block_macs
from robustprune.errors import PruningError
from robustprune.models import build_model
from robustprune.pruning import find_blocks, remove_blocks

IMAGES = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
UNITS = ("attention", "mlp")
TOKENS = 17  # 4 × 4 patches and the class
# By hand: projections in and out with biases; two layers with biases; a normalization.
PARAMETERS = {
    "attention": 4 * WIDTH**2 + 4 * WIDTH + 2 * WIDTH,
    "mlp": 2 * WIDTH * HIDDEN + HIDDEN + WIDTH + 2 * WIDTH,
}
MACS = {"attention": 4 * TOKENS * WIDTH**2 + 2 * TOKENS**2 * WIDTH, "mlp": 2 * TOKENS * WIDTH * HIDDEN}


@contextmanager
def times_zero(network: nn.Module, *names: str) -> Iterator[None]:
    """Multiply what modules return by zero."""

    def silence(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        return tree_map_only(Tensor, lambda value: 0 * value, output)

    handles = [network.get_submodule(name).register_forward_hook(silence) for name in names]
    yield
    for handle in handles:
        handle.remove()


def logits(network: nn.Module, images: Tensor = IMAGES) -> Tensor:
    with torch.no_grad():
        return network(images)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("name", NETWORKS)
def test_removing_equals_silencing(name: str, unit: str) -> None:
    dense, silenced = transformer(name), NETWORKS[name][1][unit]
    branches = find_blocks(dense, IMAGES, unit=unit)
    assert len(branches) == 3
    gone = [branches[0], branches[2]]
    pruned = remove_blocks(dense, {key: left for branch in gone for key, left in branch.leaves.items()}, example=IMAGES)
    with times_zero(dense, silenced.format(0), silenced.format(2)):
        expected = logits(dense)
    torch.testing.assert_close(logits(pruned), expected, rtol=1e-5, atol=1e-5)
    assert (logits(dense) - expected).abs().max() > 1e-3
    lost = sum(weight.numel() for weight in dense.parameters()) - sum(weight.numel() for weight in pruned.parameters())
    scale = WIDTH if name == "timm:layer-scale" else 0
    assert lost == 2 * (PARAMETERS[unit] + scale) == sum(branch.parameters for branch in gone)


@pytest.mark.parametrize("unit", UNITS)
def test_multiply_accumulates_of_a_branch(unit: str) -> None:
    dense = transformer("torchvision")
    branches = find_blocks(dense, IMAGES, unit=unit)
    macs = measure_block_macs(dense, branches, IMAGES)
    assert set(macs.values()) == {MACS[unit]}
    pruned = remove_blocks(dense, branches[1].leaves, example=IMAGES)
    assert rp.measure_cost(dense, IMAGES).macs - rp.measure_cost(pruned, IMAGES).macs == MACS[unit]


def test_both_branches_of_all_blocks_leave_the_tokens() -> None:
    dense = transformer("own")
    leaves = [branch.leaves for unit in UNITS for branch in find_blocks(dense, IMAGES, unit=unit)]
    pruned = remove_blocks(dense, {name: left for each in leaves for name, left in each.items()}, example=IMAGES)
    tokens = dense.patches(IMAGES).flatten(2).mT + dense.positions
    torch.testing.assert_close(logits(pruned), dense.head(dense.norm(tokens).mean(dim=1)))


def test_the_network_is_left_as_it_was() -> None:
    dense = transformer("torchvision").train()
    before, state = copy.deepcopy(dense.state_dict()), torch.get_rng_state()
    find_blocks(dense, IMAGES, unit="attention")
    assert dense.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in dense.state_dict().items())


def test_what_is_no_branch() -> None:
    with pytest.raises(PruningError, match="have no attention branch that could go on its own"):
        find_blocks(build_model("resnet20", Shape()), unit="attention")
    with pytest.raises(PruningError, match="have no MLP branch"):
        find_blocks(Transformer(Parallel), IMAGES, unit="mlp")
    with pytest.raises(PruningError, match="no unit 'heads' of removal; choose one of block, attention, mlp"):
        find_blocks(transformer("own"), IMAGES, unit="heads")


def test_a_block_that_asks_its_parts_for_more_than_a_call_keeps_them() -> None:
    """Torch's own encoder layer reads settings of its attention."""
    sizes = {"nhead": 2, "dim_feedforward": HIDDEN, "batch_first": True, "norm_first": True}
    network = Transformer(lambda: nn.TransformerEncoderLayer(WIDTH, **sizes))
    branches = find_blocks(network, IMAGES, unit="attention")
    assert [branch.residue for branch in branches] == [None] * 3
    assert "no attribute" in str(branches[0].obstacle)


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("name", ["torchvision:vit_b_16", "timm:deit_tiny_patch16_224"])
def test_whole_transformers(name: str, unit: str) -> None:
    dense = (
        vit_b_16(image_size=32, num_classes=10)
        if name.startswith("torchvision")
        else build_model(name, Shape()).network
    )
    torch.manual_seed(0)
    for weight in dense.parameters():
        nn.init.normal_(weight, std=0.02)
    dense.eval()
    branches = find_blocks(dense, IMAGES, unit=unit)
    assert len(branches) == 12
    pruned = remove_blocks(dense, branches[5].leaves, example=IMAGES)
    with times_zero(dense, branches[5].name):
        expected = logits(dense)
    torch.testing.assert_close(logits(pruned), expected, rtol=1e-5, atol=1e-5)
    assert (logits(dense) - expected).abs().max() > 1e-5
