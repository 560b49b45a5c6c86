"""How many images a criterion takes at a time, what it says of it, and how it tells of progress."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from robustprune.data import ImageData
from robustprune.errors import PruningError, PruningWarning
from robustprune.models import build_model
from robustprune.pruning import CRITERIA, find_masks, make_criterion, score_blocks, score_weights
from robustprune.pruning.criteria import batched
from robustprune.runtime.work import Work
from robustprune.tickets import prune_weights


@pytest.fixture
def network(few_digits: ImageData) -> nn.Module:
    return build_model("resnet20", few_digits, seed=0, width=4)


def bound(network: nn.Module, data: ImageData, monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    """Let GraSP take so many images of a network by default."""
    fixed, each = make_criterion("grasp")._needs(network, data)
    monkeypatch.setattr(batched, "SCORING_MEMORY", fixed + each * images)


def test_small_networks_take_128_at_a_time_as_ever(few_digits: ImageData, network: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = score_blocks(network, few_digits, "grasp")
    assert scores.options["batch_size"] == 128
    assert scores == score_blocks(network, few_digits, "grasp", batch_size=128)


def test_of_a_large_one_as_many_as_fit_which_is_said_and_recorded(
    few_digits: ImageData, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound(network, few_digits, monkeypatch, 30)
    with pytest.warns(PruningWarning, match="grasp takes 25 of 100 images at a time, as 100 would take about"):
        scores = score_blocks(network, few_digits, "grasp")
    assert scores.options["batch_size"] == 25
    assert scores == score_blocks(network, few_digits, **{"criterion": scores.criterion, **scores.options})
    with pytest.warns(PruningWarning, match="batch_size=25 is recorded"):
        ticket = prune_weights(network, few_digits, "grasp", sparsity=0.5)
    assert ticket.plan.options["batch_size"] == 25


def test_where_batches_decide_nothing_fewer_are_taken_silently(
    few_digits: ImageData, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score_blocks(network.double(), few_digits, "grasp", bn_mode="running")
    bound(network, few_digits, monkeypatch, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts = score_blocks(network, few_digits, "grasp", bn_mode="running")
    assert parts.options["batch_size"] == 9
    assert list(parts.values()) == pytest.approx(list(whole.values()), rel=1e-9)


@pytest.mark.parametrize("criterion", ["snip", "grasp"])
def test_batches_add_up_exactly_without_batch_normalization(few_digits: ImageData, criterion: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)).double()
    whole, parts = (score_weights(network, few_digits, criterion, batch_size=size) for size in (100, 7))
    for name, values in whole.items():
        torch.testing.assert_close(parts[name], values, rtol=1e-9, atol=1e-15)


def test_the_machine_never_decides_scores_but_refuses(
    few_digits: ImageData, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed, each = make_criterion("grasp")._needs(network, few_digits)
    monkeypatch.setattr(batched, "available_memory", lambda _device: fixed + 20 * each)
    with pytest.raises(PruningError, match=r"grasp would take .* for 100 images .* so choose it: batch_size=20 fits"):
        score_blocks(network, few_digits, "grasp")
    assert score_blocks(network, few_digits, "grasp", batch_size=20).options["batch_size"] == 20
    assert score_blocks(network, few_digits, "grasp", bn_mode="running").options["batch_size"] == 20
    monkeypatch.setattr(batched, "available_memory", lambda _device: fixed)
    with pytest.raises(PruningError, match="two images do not fit"):
        score_blocks(network, few_digits, "hrank")


def test_images_are_read_when_their_turn_comes(few_digits: ImageData, network: nn.Module) -> None:
    found = make_criterion("snip", samples_per_class=3, batch_size=16).batches(network, few_digits, 0)
    assert [len(labels) for _, labels in found] == [15, 15]
    assert batched.image_count(found) == 30
    again = found[1]
    assert torch.equal(again[0], list(found)[1][0])


@pytest.mark.quick_cases(3)
@pytest.mark.filterwarnings("ignore::robustprune.errors.PruningWarning")
# sr is for trained networks, see test_reinitialization.py.
@pytest.mark.parametrize("criterion", sorted(set(CRITERIA.names()) - {"l1", "magnitude", "random", "sr"}))
def test_criteria_tell_of_progress_from_nothing_to_all(
    few_digits: ImageData, network: nn.Module, criterion: str
) -> None:
    told: list[tuple[str, float, float]] = []
    options: dict[str, Any] = {} if criterion == "synflow" else {"batch_size": 30}
    score_blocks(network, few_digits, criterion, work=Work(progress=lambda *each: told.append(each)), **options)
    labels = list(dict.fromkeys(label for label, *_ in told))
    assert labels == ["finding blocks", f"scoring by {criterion}"]
    for each in labels:
        done = [(part, total) for label, part, total in told if label == each]
        total = done[0][1]
        assert done == [(step, total) for step in range(int(total) + 1)]


def test_rounds_of_masking_are_one_progress(few_digits: ImageData, network: nn.Module) -> None:
    told: list[tuple[float, float]] = []
    work = Work(progress=lambda _label, done, total: told.append((done, total)))
    find_masks(network, few_digits, "synflow", sparsity=0.5, rounds=3, work=work)
    assert told == [(0, 3), (1, 3), (1, 3), (2, 3), (2, 3), (3, 3)]
