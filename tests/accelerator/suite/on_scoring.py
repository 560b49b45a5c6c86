"""Criteria score on the accelerator what they score on the processor."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from pretend import NAME
from torch import Tensor, nn

import robustprune as rp
from robustprune.data import ImageData, InMemorySplit
from robustprune.pruning import prunable_convolutions
from robustprune.pruning.criteria import CRITERIA, Criterion
from robustprune.pruning.criteria.by_name import criterion_class

FEW: dict[str, Any] = {"samples": 20, "samples_per_class": 2, "batch_size": 12, "components": 2}
SHOWN = sorted(set(CRITERIA.names()) - {"sr"})  # which is for trained networks
pytestmark = pytest.mark.filterwarnings("ignore::robustprune.errors.PruningWarning")


def options(criterion: str) -> dict[str, Any]:
    return {name: value for name, value in FEW.items() if name in criterion_class(criterion).model_fields}


@pytest.mark.parametrize("criterion", SHOWN)
def test_blocks(criterion: str, model: nn.Module, data: ImageData, same: Any) -> None:
    here, there = (
        rp.score_blocks(model, data, criterion, device=device, **options(criterion)) for device in ("cpu", NAME)
    )
    same(dict(here), dict(there))


@pytest.mark.parametrize("criterion", ["cka:between=block", "jacobian:projections=3", "grasp+bi+random"])
def test_blocks_by_options_and_together(criterion: str, model: nn.Module, data: ImageData, same: Any) -> None:
    here, there = (rp.score_blocks(model, data, criterion, samples=20, device=device) for device in ("cpu", NAME))
    same(dict(here), dict(there))


def test_new_weights(model: nn.Module, data: ImageData, same: Any) -> None:
    split, answering = data.require("train"), copy.deepcopy(model)
    images = split.take(torch.arange(len(split))).double() / 255
    with torch.no_grad():  # labels that it gives, each as often
        answering.head[-1].bias -= answering(images).mean(dim=0)
        labelled = dataclasses.replace(
            data, train=InMemorySplit((images * 255).byte(), answering(images).argmax(dim=1))
        )
    here, there = (rp.score_blocks(answering, labelled, "sr", device=device) for device in ("cpu", NAME))
    same(dict(here), dict(there))
    assert len(set(here.values())) > 1


@pytest.mark.parametrize("criterion", SHOWN)
def test_filters(criterion: str, model: nn.Module, data: ImageData, images: Tensor, same: Any) -> None:
    if criterion_class(criterion).filter_scores is Criterion.filter_scores:
        pytest.skip("scores no filters")
    layers = list(prunable_convolutions(model, rp.find_blocks(model, images), images).values())[:3]
    here, there = (
        rp.score_filters(model, layers, data, criterion, device=device, **options(criterion))
        for device in ("cpu", NAME)
    )
    same(dict(here), dict(there))


@pytest.mark.parametrize("criterion", SHOWN)
def test_weights(criterion: str, model: nn.Module, data: ImageData, same: Any) -> None:
    if criterion_class(criterion).weight_scores is Criterion.weight_scores:
        pytest.skip("scores no weights")
    here, there = (
        rp.score_weights(model, data, criterion, device=device, **options(criterion)) for device in ("cpu", NAME)
    )
    same(here, there)


@pytest.mark.parametrize("criterion", ["snip", "grasp"])
def test_scores_on_attacked_images(criterion: str, model: nn.Module, data: ImageData, same: Any) -> None:
    own = {**options(criterion), "scoring_images": "adversarial"}
    here, there = (rp.score_blocks(model, data, criterion, device=device, **own) for device in ("cpu", NAME))
    same(dict(here), dict(there))


def test_a_network_that_is_there_is_scored_and_cut_there(
    model: nn.Module, data: ImageData, images: Tensor, same: Any
) -> None:
    moved = copy.deepcopy(model).to(NAME)
    own = options("grasp")
    scores = rp.score_blocks(moved, data, "grasp", **own)
    same(dict(rp.score_blocks(model, data, "grasp", **own)), dict(scores))
    found = [rp.prune_layers(each, scores, blocks=1, data=data) for each in (model, moved)]
    assert found[0].sha256 == found[1].sha256
    assert next(found[1].network.parameters()).device.type == NAME
    layers = prunable_convolutions(moved, rp.find_blocks(moved, images), images).values()
    filters = rp.score_filters(moved, list(layers), data, "l1")
    cut = [rp.prune_filters(each, filters, match=found[0], data=data) for each in (model, moved)]
    assert cut[0].sha256 == cut[1].sha256


@pytest.mark.parametrize("rounds", [1, 3])
def test_masks(rounds: int, model: nn.Module, data: ImageData) -> None:
    here, there = (
        rp.prune_weights(model, data, "snip", sparsity=0.7, rounds=rounds, device=device, **options("snip"))
        for device in ("cpu", NAME)
    )
    assert here.masks.keys() == there.masks.keys()
    assert all(torch.equal(here.masks[name], there.masks[name]) for name in here.masks)
    assert here.sha256 == there.sha256


def test_masks_of_a_ticket_that_is_there(model: nn.Module, data: ImageData) -> None:
    ticket = rp.prune_weights(model, data, "snip", sparsity=0.5, **options("snip"))
    expected = rp.prune_weights(ticket, data, "magnitude", sparsity=0.8)
    ticket.network.to(NAME)
    ticket.check_masks()
    found = rp.prune_weights(ticket, data, "magnitude", sparsity=0.8)
    assert expected.sha256 == found.sha256
    assert next(found.network.parameters()).device.type == NAME


def test_an_unknown_device_is_said_to_be_so(model: nn.Module, data: ImageData) -> None:
    with pytest.raises(
        rp.RobustPruneError, match=f"there is no device 'cuda:1' on this machine; it has: {NAME}:0, cpu"
    ):
        rp.score_blocks(model, data, "random", device="cuda:1")
