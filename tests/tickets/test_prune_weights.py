"""Tickets with masks: their weights, their file, and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from robustprune.cost import measure_cost
from robustprune.data import ImageData
from robustprune.errors import PruningError, TicketError
from robustprune.evaluation import evaluate
from robustprune.models import build_model
from robustprune.pruning import FilterScores, count_kept, score_blocks
from robustprune.records import load_record
from robustprune.runtime.files import write_sealed
from robustprune.tickets import prune_filters, prune_layers, prune_weights
from robustprune.tickets.header import Plan
from robustprune.tickets.ticket import Ticket, apply_plan, load_ticket


def bits(value: Tensor) -> bytes:
    return value.detach().contiguous().numpy().tobytes()


@pytest.fixture
def dense(few_digits: ImageData) -> Ticket:
    return Ticket.from_model(build_model("resnet20", few_digits, width=4, seed=3), few_digits)


@pytest.fixture
def masked(dense: Ticket, few_digits: ImageData) -> Ticket:
    return prune_weights(dense, few_digits, "snip", sparsity=0.5, seed=7, samples_per_class=5)


def test_kept_weights_are_bit_equal_and_the_others_zero(dense: Ticket, masked: Ticket) -> None:
    state = dense.network.state_dict()
    for name, value in masked.network.state_dict().items():
        if name in masked.masks:
            mask = masked.masks[name]
            assert bits(value[mask]) == bits(state[name][mask])
            assert bits(value[~mask]) == bits(torch.zeros(int((~mask).sum())))  # +0, not −0
        else:
            assert bits(value) == bits(state[name])
    assert all(bool(state[name].all()) for name in masked.masks)  # the dense network was left as it was


def test_the_plan_says_how(masked: Ticket, few_digits: ImageData) -> None:
    plan = masked.plan
    assert (plan.method, plan.criterion, plan.sparsity, plan.rounds, plan.seed) == ("weight", "snip", 0.5, 1, 7)
    assert plan.options["samples_per_class"] == 5
    assert (plan.removed, plan.eligible, plan.earlier) == ({}, (), ())
    assert plan.scoring_seconds > 0
    assert masked.seed == 3
    assert masked.data == few_digits.spec


@pytest.mark.slow
def test_synflow_takes_a_hundred_rounds_unless_told(dense: Ticket, few_digits: ImageData) -> None:
    assert prune_weights(dense, few_digits, "synflow", sparsity=0.5).plan.rounds == 100
    assert prune_weights(dense, few_digits, "synflow", sparsity=0.5, rounds=2).plan.rounds == 2


def test_rewinding_gives_kept_weights_of_any_epoch(masked: Ticket, few_digits: ImageData) -> None:
    rewound_to = build_model("resnet20", few_digits, width=4, seed=11)
    state = {name: value.clone() for name, value in rewound_to.state_dict().items()}
    rewound = apply_plan(rewound_to, masked.plan, masked.masks).state_dict()
    for name, value in state.items():
        expected = torch.where(masked.masks[name], value, 0.0) if name in masked.masks else value
        assert bits(rewound[name]) == bits(expected)
        assert bits(rewound_to.state_dict()[name]) == bits(value)


def test_masks_save_neither_parameters_nor_macs_nor_filters(dense: Ticket, masked: Ticket) -> None:
    assert measure_cost(masked.network) == measure_cost(dense.network)
    weights = sum(mask.numel() for mask in masked.masks.values())
    assert masked.mask_summary == {"weights": weights, "kept": round(0.5 * weights)}
    assert dense.mask_summary is None


def test_a_record_says_how_many_weights_are_kept(
    dense: Ticket, masked: Ticket, few_digits: ImageData, tmp_path: Path
) -> None:
    record = evaluate(masked, few_digits, limit=20)
    record.save(tmp_path / "record.json")
    found = load_record(tmp_path / "record.json").model
    assert found.masks == masked.mask_summary
    assert found.parameters == measure_cost(dense.network).parameters
    assert (found.plan["method"], found.plan["sparsity"]) == ("weight", 0.5)
    assert evaluate(dense, few_digits, limit=20).model.masks is None


def test_round_trip(masked: Ticket, tmp_path: Path) -> None:
    masked.save(tmp_path / "ticket.pt")
    found = load_ticket(tmp_path / "ticket.pt")
    assert found.plan == masked.plan
    assert found.sha256 == masked.sha256
    assert found.masks.keys() == masked.masks.keys()
    assert all(torch.equal(mask, masked.masks[name]) for name, mask in found.masks.items())


def test_layers_then_weights_of_one_network(dense: Ticket, few_digits: ImageData, tmp_path: Path) -> None:
    fewer = prune_layers(dense, score_blocks(dense.network, few_digits, "random"), blocks=1)
    (gone,) = fewer.plan.removed
    again = prune_weights(fewer, few_digits, "magnitude", sparsity=0.9)
    assert list(again.plan.removed) == [gone]
    assert not [name for name in again.masks if name.startswith(f"{gone}.")]
    assert [plan.method for plan in again.plan.earlier] == ["layer"]
    assert count_kept(again.masks) == round(0.1 * sum(mask.numel() for mask in again.masks.values()))
    again.save(tmp_path / "ticket.pt")
    assert load_ticket(tmp_path / "ticket.pt").sha256 == again.sha256
    with pytest.raises(PruningError, match="at least one has to go"):
        prune_weights(again, few_digits, "magnitude", sparsity=0.5)


def test_masked_tickets_keep_their_blocks_and_filters(masked: Ticket, few_digits: ImageData) -> None:
    with pytest.raises(PruningError, match="remove those first"):
        prune_layers(masked, score_blocks(masked.network, few_digits, "random"), blocks=1)
    with pytest.raises(PruningError, match="remove those first"):
        prune_filters(masked, FilterScores({}, criterion="x"), filters=1)


def no_masks(content: dict[str, Any]) -> None:
    content["masks"] = {}


def masks_without_a_plan(content: dict[str, Any]) -> None:
    content["header"]["plan"] = Plan().model_dump(mode="json")


def masks_as_a_list(content: dict[str, Any]) -> None:
    content["masks"] = list(content["masks"].values())


def one_missing(content: dict[str, Any]) -> None:
    del content["masks"]["fc.weight"]


def one_of_a_bias(content: dict[str, Any]) -> None:
    content["masks"]["fc.bias"] = torch.ones(10, dtype=torch.bool)


def numbers(content: dict[str, Any]) -> None:
    content["masks"]["fc.weight"] = content["masks"]["fc.weight"].float()


def no_tensor(content: dict[str, Any]) -> None:
    content["masks"]["fc.weight"] = True


def other_shape(content: dict[str, Any]) -> None:
    content["masks"]["fc.weight"] = content["masks"]["fc.weight"].T.contiguous()


def weights_that_escaped(content: dict[str, Any]) -> None:
    content["weights"]["fc.weight"] = torch.ones(10, 16)


def not_a_number(content: dict[str, Any]) -> None:
    content["weights"]["fc.weight"][~content["masks"]["fc.weight"]] = torch.nan


def all_of_them(content: dict[str, Any]) -> None:
    content["header"]["plan"]["sparsity"] = 1.0


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (no_masks, "put together by hand: its plan masks weights, and it holds no masks"),
        (masks_without_a_plan, "its plan masks no weights, and it holds masks"),
        (masks_as_a_list, "put together by hand"),
        (one_missing, r"not one for each convolution and linear weight: fc\.weight"),
        (one_of_a_bias, r"not one for each convolution and linear weight: fc\.bias"),
        (numbers, r"that of fc\.weight is no tensor of true and false of shape \(10, 16\)"),
        (no_tensor, r"that of fc\.weight is no tensor"),
        (other_shape, r"that of fc\.weight is no tensor"),
        (weights_that_escaped, r"\d+ weights of fc\.weight outside its mask are not zero"),
        (not_a_number, r"\d+ weights of fc\.weight outside its mask are not zero"),
        (all_of_them, r"header\.plan\.sparsity"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_masks_in_a_file_that_make_no_sense(
    masked: Ticket, tmp_path: Path, change: Callable[[dict[str, Any]], None], match: str
) -> None:
    path = tmp_path / "ticket.pt"
    masked.save(path)
    content = torch.load(path, weights_only=True)
    change(content)
    write_sealed(path, content)
    with pytest.raises(TicketError, match=match) as caught:
        load_ticket(path)
    assert "ticket.pt" in str(caught.value)


def test_a_ticket_that_could_not_be_read_is_not_written(masked: Ticket, few_digits: ImageData, tmp_path: Path) -> None:
    with torch.no_grad():
        masked.network.get_parameter("fc.weight").add_(1)
    with pytest.raises(TicketError, match=r"weights of fc\.weight outside its mask"):
        masked.save(tmp_path / "ticket.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_file_from_before_there_were_masks(dense: Ticket, tmp_path: Path) -> None:
    path = tmp_path / "ticket.pt"
    dense.save(path)
    content = torch.load(path, weights_only=True)
    del content["masks"]
    for field in ("sparsity", "rounds"):
        del content["header"]["plan"][field]
    write_sealed(path, content)
    assert load_ticket(path).masks == {}


@pytest.mark.parametrize("criterion", ["hrank", "expected_abs", "pls", "kl"])
def test_criteria_without_scores_for_weights_are_refused(dense: Ticket, few_digits: ImageData, criterion: str) -> None:
    with pytest.raises(PruningError, match="does not score weights: "):
        prune_weights(dense, few_digits, criterion, sparsity=0.5)
