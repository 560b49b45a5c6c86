"""Counts against closed forms and against the paper's tables (arXiv:2301.10835)."""

from __future__ import annotations

import pytest
import torch
from support import Shape
from torch import nn

from robustprune.cost import measure_block_macs, measure_cost
from robustprune.models import build_model
from robustprune.pruning import find_blocks, remove_blocks

DENSE = {name: build_model(name, Shape()) for name in ("resnet32", "resnet56")}
BLOCKS = {name: [block for block in find_blocks(net) if block.position > 0] for name, net in DENSE.items()}


def without(name: str, count: int) -> nn.Module:
    # Spread over the stages: every block that can go costs the same.
    spread = BLOCKS[name][:: len(BLOCKS[name]) // count][:count]
    return remove_blocks(DENSE[name], {block.name: block.residue for block in spread})


def test_resnet32_in_closed_form() -> None:
    # 3×3 convolutions at 32², 16², 8², the two 1×1 projections, the linear layer.
    stage = 2 * 5 * 9 * 16 * 16 * 32**2
    downsampling = 9 * 16 * 32 * 16**2 + 16 * 32 * 16**2 + 9 * (32 * 64) * 8**2 + 32 * 64 * 8**2
    macs = 9 * 3 * 16 * 32**2 + stage + 2 * (stage * 9 // 10) + downsampling + 640
    assert measure_cost(DENSE["resnet32"]).macs == macs


@pytest.mark.quick_cases(1)
@pytest.mark.parametrize(("name", "percent"), [("resnet32", 6.826), ("resnet56", 3.752)])
def test_each_block_saves_the_same_share(name: str, percent: float) -> None:
    dense = measure_cost(DENSE[name])
    for block in BLOCKS[name]:
        pruned = remove_blocks(DENSE[name], {block.name: block.residue})
        assert measure_cost(pruned).saved_percent(dense)["macs"] == pytest.approx(percent, abs=5e-4)


@pytest.mark.parametrize(
    ("name", "count", "percent"),
    [
        ("resnet32", 1, 6.82),
        ("resnet32", 3, 20.47),
        ("resnet32", 5, 34.13),  # printed in the row for 4 blocks; 4 would save 27.30
        ("resnet56", 3, 11.25),
        ("resnet56", 4, 15.00),
        ("resnet56", 5, 18.76),
    ],
)
def test_table_4_flops(name: str, count: int, percent: float) -> None:
    saved = measure_cost(without(name, count)).saved_percent(measure_cost(DENSE[name]))
    assert saved["macs"] == pytest.approx(percent, abs=0.02)


def test_table_4_flops_of_twelve_blocks() -> None:
    # The paper prints 45.00, twelve times the 3.75 that it rounds one block to; one block is 3.7524 %.
    saved = measure_cost(without("resnet56", 12)).saved_percent(measure_cost(DENSE["resnet56"]))
    assert saved["macs"] == pytest.approx(12 * 3.7524, abs=0.002)
    assert round(saved["macs"] / 12, 2) * 12 == pytest.approx(45.00)


def test_filter_counts_of_the_paper() -> None:
    stage_1 = [block for block in BLOCKS["resnet32"] if block.stage == 0]
    counts = [
        measure_cost(
            remove_blocks(DENSE["resnet32"], {block.name: block.residue for block in stage_1[:removed]})
        ).filters
        for removed in (0, 1, 2)
    ]
    assert counts == [1232, 1200, 1168]


def test_block_macs_are_what_their_removal_saves() -> None:
    dense = measure_cost(DENSE["resnet32"]).macs
    macs = measure_block_macs(DENSE["resnet32"], BLOCKS["resnet32"])
    for block in BLOCKS["resnet32"]:
        pruned = remove_blocks(DENSE["resnet32"], {block.name: block.residue})
        assert dense - measure_cost(pruned).macs == macs[block.name]


def test_foreign_network_and_batch_of_examples() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 7), nn.ReLU(), nn.Linear(7, 2)).train()
    cost = measure_cost(network, torch.rand(5, 3, 4, 4))
    assert cost.macs == 48 * 7 + 7 * 2
    assert cost.parameters == 48 * 7 + 7 + 7 * 2 + 2
    assert cost.filters == 0
    assert network.training


def test_network_without_counted_operations() -> None:
    assert measure_cost(nn.Flatten(), torch.rand(1, 3, 4, 4)).macs == 0


@pytest.mark.parametrize("training", [False, True])
def test_attention_is_counted(training: bool) -> None:
    # ViT-B/16 of 12 layers, width 768, in closed form: patches, then per layer q, k, v and output projections,
    # the two products of attention, the MLP of four times the width; last the head.
    tokens, width = (48 // 16) ** 2 + 1, 768
    layer = 4 * tokens * width**2 + 2 * tokens**2 * width + 2 * tokens * width * 4 * width
    macs = (tokens - 1) * 3 * 16**2 * width + 12 * layer + width * 10
    network = build_model("torchvision:vit_b_16", Shape(image_size=(48, 48))).train(training)
    assert measure_cost(network).macs == macs
    assert torch.backends.mha.get_fastpath_enabled()
