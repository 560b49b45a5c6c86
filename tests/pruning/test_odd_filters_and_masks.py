"""Filters and masks on networks that share, compute or copy their weights, against weights zeroed by hand."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import odd_networks as nets
import pytest
import torch
from odd_networks import Plain
from support import shaken
from torch import nn

from robustprune.errors import PruningError, PruningWarning
from robustprune.models import copy_network
from robustprune.pruning import (
    find_blocks,
    maskable_weights,
    prunable_convolutions,
    remove_filters,
)
from robustprune.pruning.masks import check_weights_run

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
CODE = Path(nets.__file__)


def built(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the old weight_norm
        torch.manual_seed(5)
        return shaken(build().eval())


@pytest.mark.parametrize(
    "build",
    [
        nets.InList,
        nets.InNestedDict,
        nets.UnderSecondName,
        nets.ByBoundMethod,
        nets.ByPartial,
        nets.NonAffine,
        nets.KeywordOnly,
        nets.SecondArgument,
        nets.TupleOut,
        nets.SumInParent,
        nets.RunTwice,
        nets.ReadsKernel,
        nets.data_parallel,
    ],
)
def test_filters_go_as_if_nobody_had_read_them(build: Callable[[], nn.Module]) -> None:
    dense = built(build)
    blocks = find_blocks(dense, IMAGES)
    convolutions = prunable_convolutions(dense, blocks, IMAGES)
    assert len(convolutions) == 4
    removed = {name: (1, 6) for name in convolutions.values()}
    pruned = remove_filters(dense, removed, blocks=blocks, example=IMAGES)
    by_hand = copy_network(dense)
    for first in convolutions.values():
        second = by_hand.get_submodule(first[:-1] + "3")
        second.weight.detach()[:, [1, 6]] = 0
    with torch.no_grad():
        torch.testing.assert_close(pruned(IMAGES), by_hand(IMAGES), rtol=1e-5, atol=1e-6)
        assert (pruned(IMAGES) - dense(IMAGES)).abs().max() > 1e-4
    assert all(pruned.get_submodule(name).out_channels == 6 for name in convolutions.values())


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (nets.TiedFirstConvolution, r"shares a parameter with blocks\.1\.branch\.0"),
        (nets.SharedConvolutionModule, "outside the block"),
        (nets.SpectralNorm, "weight is computed from other parameters"),
        (nets.Orthogonal, "weight is computed from other parameters"),
        (nets.WeightNormOld, r"parameter of its own \(weight_g\)"),
        (nets.TiedAndSpectral, "weight is computed from other parameters"),
        (nets.Pairs, "outside the block"),
    ],
)
def test_filters_that_others_share_stay(build: Callable[[], nn.Module], reason: str) -> None:
    with pytest.raises(PruningError, match=f"no filters of this network can go on their own.*{reason}"):
        prunable_convolutions(built(build), example=IMAGES)
    with pytest.raises(PruningError, match=rf"filters of blocks\.0\.branch\.0 cannot go: .*{reason}"):
        remove_filters(built(build), {"blocks.0.branch.0": [1]}, example=IMAGES)


def test_blocks_with_shared_convolutions_keep_them_and_others_lose_filters() -> None:
    network = built(nets.SharedNorm)
    with pytest.warns(PruningWarning, match=r"blocks\.1, blocks\.2"):
        assert list(prunable_convolutions(network, example=IMAGES)) == ["blocks.0", "blocks.3"]


@pytest.mark.parametrize(
    ("build", "convolution", "reason"),
    [
        (nets.Unregistered, "blocks.0.branch.0", "not registered"),
        (nets.UsesWeightsOfBlock, "blocks.1.branch.0", "does not run any more"),
        (nets.CachedWeight, "blocks.1.branch.0", "does not run any more|cannot go"),
        (nets.Frozen, "blocks.0.branch.0", "does not run any more"),
    ],
)
def test_filters_do_not_go_where_they_would_go_on_running(
    build: Callable[[], nn.Module], convolution: str, reason: str
) -> None:
    with pytest.raises(PruningError, match=reason):
        remove_filters(built(build), {convolution: [0, 3]}, example=IMAGES)


@pytest.mark.parametrize(
    "build",
    [Plain, nets.InList, nets.TiedFirstConvolution, nets.AuxiliaryInTraining, nets.ReentrantlyCheckpointed, nets.Pairs],
)
def test_weights_that_run_can_be_masked(build: Callable[[], nn.Module]) -> None:
    network = built(build)
    check_weights_run(network, maskable_weights(network), IMAGES)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (nets.SecondCopy, r"does not compute with the weights stem\.weight"),
        (nets.CachedWeight, r"does not compute with the weights blocks\.1\.branch\.0\.weight"),
        (nets.ByClosure, "not registered"),
        (nets.Unregistered, "not registered"),
    ],
)
def test_weights_that_do_not_run_cannot_be_masked(build: Callable[[], nn.Module], reason: str) -> None:
    network = built(build)
    with torch.no_grad():
        network(IMAGES)
    with pytest.raises(PruningError, match=reason):
        check_weights_run(network, maskable_weights(network), IMAGES)


def test_a_shared_weight_is_masked_once_and_under_a_layers_name() -> None:
    assert "head.weight" in maskable_weights(nets.TiedToTable())
    tied = maskable_weights(nets.TiedFirstConvolution())
    assert [name for name in tied if name.endswith("branch.0.weight")] == ["blocks.0.branch.0.weight"]


def test_parameters_of_scripts_are_looked_at_too() -> None:
    """Torch hands out a script's parameters by other ways than ``get_parameter``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # scripting is deprecated
        layer = torch.jit.script(nn.Conv2d(3, 4, 1))
    scripted = nn.Sequential(layer, nn.Flatten(), nn.Linear(4 * 16 * 16, 3))
    check_weights_run(scripted, ["0.weight", "2.weight"], IMAGES)
