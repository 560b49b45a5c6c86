"""SR-init on a network whose accuracy after new weights is known, and against new weights drawn by hand."""

from __future__ import annotations

import copy
from math import sqrt

import pytest
import torch
from scored_networks import COMPUTED, FORMS, changed, odd_network
from small_networks import COUNT, few_images, small_network
from torch import Tensor, nn
from torch.nn import functional as F

from robustprune.data import ImageData, InMemorySplit
from robustprune.errors import PruningError
from robustprune.pruning import Block, find_blocks, make_criterion, score_blocks
from robustprune.pruning.criteria.reinitialization import drawn_anew
from robustprune.runtime.randomness import derive_seed


class Known(nn.Linear):
    """A layer whose new weights are known: a multiple of the identity."""

    def __init__(self, anew: float) -> None:
        self.anew = 0.0
        super().__init__(2, 2, bias=False)
        self.anew = anew

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.weight.copy_(self.anew * torch.eye(2))


class KnownBlock(nn.Module):
    def __init__(self, anew: float) -> None:
        super().__init__()
        self.layer = Known(anew)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.layer(features)


def test_accuracy_that_is_known() -> None:
    # The brighter pixel tells the class. x − 3x turns all answers round, x + x none; x − x = 0 makes all the first.
    network = nn.Sequential(nn.Flatten(), KnownBlock(-3.0), KnownBlock(1.0), KnownBlock(-1.0))
    images = torch.tensor([[9, 1], [8, 2], [7, 3], [1, 9], [2, 8]] * 8, dtype=torch.uint8).view(-1, 1, 1, 2)
    labels = torch.tensor([0, 0, 0, 1, 1] * 8)
    data = ImageData("pixels", ("left", "right"), (0.0,), (1.0,), False, InMemorySplit(images, labels))
    blocks = [Block(str(place), place, 0, place, 3, 4, "identity") for place in (1, 2, 3)]
    found = make_criterion("sr", batch_size=11).score(network, blocks, data, 0)
    assert found == pytest.approx({"1": 1.0, "2": 0.0, "3": 0.4})


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", ["maps", "tokens"])
def test_new_weights_drawn_by_hand(few_digits: ImageData, kind: str, seed: int) -> None:
    network = small_network(kind, few_digits, seed)
    data = few_images(few_digits, network)  # of which the network names the labels, so that its accuracy is 1
    images, labels = data.require("train").images / 255, data.require("train").labels
    expected = {}
    for place in range(3):
        correct = []
        for draw in range(2):
            left = copy.deepcopy(network)
            torch.manual_seed(derive_seed(seed, "sr", f"blocks.{place}", draw))
            for module in left.blocks[place].modules():
                if list(module.parameters(recurse=False)):
                    module.reset_parameters()
                module.train(isinstance(module, nn.BatchNorm2d))
            with torch.no_grad():
                correct += (left(images).argmax(dim=1) == labels).tolist()
        expected[f"blocks.{place}"] = 1 - sum(correct) / (2 * COUNT)
    before = copy.deepcopy(network.state_dict())
    blocks = find_blocks(network, images[:2])
    assert make_criterion("sr", draws=2).score(network, blocks, data, seed) == pytest.approx(expected)
    assert len(set(expected.values())) > 1
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_new_weights_are_those_of_the_layer(few_digits: ImageData) -> None:
    block = small_network("maps", few_digits, 0).blocks[1]
    fresh = drawn_anew(block, "blocks.1", seed=3)
    bound = 1 / sqrt(8 * 9)  # of torch's convolutions, uniform over ±1/√(inputs)
    for layer in (fresh.branch[0], fresh.branch[3]):
        assert 0.9 * bound < float(layer.weight.detach().abs().max()) <= bound
        assert not torch.equal(layer.weight, block.branch[0].weight)
    assert fresh.branch[1].weight.eq(1).all()
    assert torch.equal(drawn_anew(block, "blocks.1", seed=3).branch[0].weight, fresh.branch[0].weight)
    assert not torch.equal(drawn_anew(block, "blocks.1", seed=4).branch[0].weight, fresh.branch[0].weight)


def test_attention_draws_its_weights_too() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=True)
    fresh = drawn_anew(layer, "layer", seed=0)
    names = [name for name, weight in layer.named_parameters() if weight.ndim > 1]
    assert "self_attn.in_proj_weight" in names
    assert not any(torch.equal(layer.get_parameter(name), fresh.get_parameter(name)) for name in names)


def test_weights_that_blocks_share_change_in_one_alone(few_digits: ImageData) -> None:
    tied, free = FORMS["tied"](few_digits).eval(), odd_network(few_digits).eval()
    free.load_state_dict(tied.state_dict())
    data = few_images(few_digits, tied)
    free.load_state_dict(tied.state_dict())
    found = [score_blocks(network, data, "sr", seed=1) for network in (tied, free)]
    assert found[0] == found[1]


def test_a_network_that_guesses_is_refused(few_digits: ImageData) -> None:
    network = odd_network(few_digits)
    with torch.no_grad():
        network.head.bias[3] += 100
    with pytest.raises(PruningError, match=r"of 200 training images correctly, no better than .*at_init: false"):
        score_blocks(network, few_digits, "sr")


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("form", sorted(COMPUTED.keys() - {"in forward", "standardized"}))
def test_weights_that_no_layer_draws_are_refused(few_digits: ImageData, form: str) -> None:
    block = changed(COMPUTED[form])()
    with pytest.raises(PruningError, match=r"sr: the weights of block b cannot be drawn anew, as its layer branch\.0"):
        drawn_anew(block, "b", seed=0)


@pytest.mark.parametrize("form", ["in forward", "standardized"])
def test_weights_made_in_the_forward_pass_are_drawn_anew(few_digits: ImageData, form: str) -> None:
    fresh = drawn_anew(changed(COMPUTED[form])(), "b", seed=0)
    assert F.relu(fresh(torch.rand(2, 8, 8, 8))).isfinite().all()
