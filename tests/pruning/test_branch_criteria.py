"""What criteria say of attention and MLP branches, against their definitions written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformer_networks import transformer

import robustprune as rp
from robustprune.errors import PruningError

IMAGES = torch.randint(0, 256, (12, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
LABELS = torch.arange(12) % 3
DATA = rp.as_data(train=(IMAGES, LABELS))
ATTENTION = [f"blocks.{number}.attn" for number in range(3)]
MLP = [f"blocks.{number}.mlp" for number in range(3)]


def tokens_around(network: nn.Module, unit: str) -> list[tuple[Tensor, Tensor]]:
    """The tokens before and after each branch, by the arithmetic of a block."""
    with torch.no_grad():
        tokens, found = network.patches(IMAGES / 255).flatten(2).mT + network.positions, []
        for block in network.blocks:
            attended = tokens + block.attn(block.norm1(tokens))
            left = attended + block.mlp(block.norm2(attended))
            found.append((tokens, attended) if unit == "attention" else (attended, left))
            tokens = left
    return found


@pytest.mark.parametrize(("unit", "names"), [("attention", ATTENTION), ("mlp", MLP)])
def test_block_influence_is_of_the_tokens_that_pass_by(unit: str, names: list[str]) -> None:
    network = transformer("own")
    scores = rp.score_blocks(network, DATA, "bi", unit=unit)
    cosines = [nn.functional.cosine_similarity(*ends, dim=-1) for ends in tokens_around(network, unit)]
    assert list(scores) == names
    assert scores.unit == unit
    assert list(scores.values()) == pytest.approx([float(1 - cosine.mean()) for cosine in cosines], rel=1e-4)


@pytest.mark.parametrize("unit", ["attention", "mlp"])
def test_activations_are_those_after_the_sum_or_of_the_branch(unit: str) -> None:
    network = transformer("own")
    ends = tokens_around(network, unit)
    after = rp.score_blocks(network, DATA, "expected_abs", unit=unit)
    branch = rp.score_blocks(network, DATA, "expected_abs", unit=unit, site="branch")
    assert list(after.values()) == pytest.approx([float(left.abs().mean()) for _, left in ends], rel=1e-4)
    assert list(branch.values()) == pytest.approx([float((b - a).abs().mean()) for a, b in ends], rel=1e-4)


@pytest.mark.parametrize("unit", ["attention", "mlp"])
def test_divergence_is_that_of_the_network_without_the_branch(unit: str) -> None:
    network = transformer("own")
    scores = rp.score_blocks(network, DATA, "kl", unit=unit)
    with torch.no_grad():
        whole = network(IMAGES / 255).double().log_softmax(dim=1)
        for name, score in scores.items():
            module = network.get_submodule(name)
            handle = module.register_forward_hook(lambda _module, _inputs, output: 0 * output)
            without = network(IMAGES / 255).double().log_softmax(dim=1)
            handle.remove()
            assert score == pytest.approx(float((whole.exp() * (whole - without)).sum(dim=1).mean()), rel=1e-3)


def test_weights_of_a_branch_are_those_of_all_its_layers() -> None:
    network = transformer("in-block")
    scores = rp.score_blocks(network, DATA, "snip", unit="mlp", samples_per_class=4)
    loss = nn.functional.cross_entropy(network(IMAGES / 255), LABELS)
    for block, score in zip(network.blocks, scores.values(), strict=True):
        weights = (block.first.weight, block.second.weight)
        slopes = torch.autograd.grad(loss, weights, retain_graph=True)
        expected = sum(
            float((weight.detach() * slope).abs().sum()) for weight, slope in zip(weights, slopes, strict=True)
        )
        assert score == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("options", [{"criterion": "grasp"}, {"criterion": "cka"}, {"criterion": "snip+random"}])
@pytest.mark.parametrize("name", ["torchvision", "in-block", "added"])
def test_criteria_score_branches_of_any_writing(name: str, options: dict[str, Any]) -> None:
    scores = rp.score_blocks(transformer(name), DATA, unit="attention", **options)
    assert len(scores) == 3


@pytest.mark.parametrize(
    ("criterion", "reason"), [("hrank", "needs feature maps"), ("synflow", "LayerNorm normalizes")]
)
def test_criteria_without_a_meaning_for_tokens_say_so(criterion: str, reason: str) -> None:
    with pytest.raises(PruningError, match=reason):
        rp.score_blocks(transformer("own"), DATA, criterion, unit="mlp")
