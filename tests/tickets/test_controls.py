"""Controls of initial weights: what they keep of them, and what they do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import ks_2samp
from support import Shape, shaken

from robustprune.errors import PruningError
from robustprune.models import build_model
from robustprune.pruning import BlockScores
from robustprune.tickets import prune_layers
from robustprune.tickets.requests import Pruning
from robustprune.tickets.rewinding import RewindPoint, parse_rewind_point, set_back, shuffle
from robustprune.tickets.ticket import Ticket, load_ticket

SHAPE: Any = Shape(channels=1, image_size=(8, 8))


@cache
def fresh(seed: int = 0) -> Ticket:
    return Ticket.from_model(build_model("resnet20", SHAPE, width=4, seed=seed))


@cache
def found(seed: int = 0) -> Ticket:
    dense = fresh(seed)
    scores = {f"layer{stage}.{place}": 1.0 for stage in (1, 2, 3) for place in (0, 1, 2)} | {"layer2.1": 0.0}
    return prune_layers(dense, BlockScores(scores, criterion="by hand"), blocks=1)


@cache
def started(origin: str, seed: int = 0) -> Ticket:
    return set_back(found(seed), parse_rewind_point(origin, epochs=4), fresh(seed))


def test_shuffled_tensors_hold_the_same_values() -> None:
    shaken(fresh(3).network)  # normalization that is not the identity
    before, after = (ticket.network.state_dict() for ticket in (found(3), started("shuffled", 3)))
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    weights = {name for name, _ in found(3).network.named_parameters()}
    assert moved == {name for name in weights if name.startswith("layer")}
    for name in moved:
        assert torch.equal(before[name].flatten().sort().values, after[name].flatten().sort().values)


def test_the_seed_decides_the_order() -> None:
    once = started("shuffled")
    again = set_back(found(), RewindPoint(shuffled=True), fresh())
    assert once.sha256 == again.sha256
    other = set_back(found(), RewindPoint(shuffled=True), replace(fresh(), seed=1))
    assert once.sha256 != other.sha256


def test_shuffled_weights_stay_within_masks() -> None:
    before = fresh().network.get_parameter("layer1.0.conv1.weight")
    mask = torch.rand(before.shape) < 0.5
    ticket = replace(fresh(), masks={"layer1.0.conv1.weight": mask})
    after = shuffle(ticket, fresh()).network.get_parameter("layer1.0.conv1.weight")
    assert torch.equal(after != 0, mask)
    assert not torch.equal(after[mask], before[mask])
    assert torch.equal(after[mask].sort().values, before[mask].sort().values)


def test_new_weights_have_the_old_ones_distribution() -> None:
    before, after = found(), started("random")
    assert before.plan.removed == after.plan.removed
    for name, own in before.network.named_parameters():
        other = after.network.get_parameter(name)
        if own.std() == 0:  # normalization begins as the identity
            assert torch.equal(own, other)
        else:
            assert not bool((own == other).any())
            assert ks_2samp(own.detach().flatten(), other.detach().flatten()).pvalue > 1e-4


@pytest.mark.parametrize("origin", ["random", "shuffled"])
def test_a_ticket_remembers_where_its_weights_came_from(origin: str, tmp_path: Path) -> None:
    started(origin).save(tmp_path / "ticket.pt")
    assert load_ticket(tmp_path / "ticket.pt").plan.rewound_to == origin


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Pruning("filter", criterion="l1", blocks=1, choice="highest").check(), "is one of blocks"),
        (lambda: Pruning("layer", criterion="l1", blocks=1, choice="lowset"), "'highest'"),
        (lambda: prune_layers(fresh(), BlockScores({}, criterion="x"), blocks=1, choice="most"), "no choice 'most'"),  # type: ignore[arg-type]
    ],
)
def test_choices_that_cannot_be(make: Callable[[], object], words: str) -> None:
    with pytest.raises(PruningError, match=words):
        make()
