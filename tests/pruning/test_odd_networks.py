"""Removal on networks that reach, build, call or share their blocks in unusual ways, against hand-built ones."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import odd_networks
import pytest
import torch
from odd_networks import ODD, Odd, Plain
from support import Shape, shaken
from torch import nn

from robustprune.cost import measure_block_macs, measure_cost
from robustprune.errors import PruningError
from robustprune.models import build_model, copy_network
from robustprune.pruning import Block, BlockScores, find_blocks, remove_blocks
from robustprune.tickets import prune_layers
from robustprune.tickets.rewinding import rewind
from robustprune.tickets.ticket import Ticket, load_ticket

IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
WORKING = {name: odd for name, odd in ODD.items() if odd.residue is not None}
REFUSED = {name: odd for name, odd in ODD.items() if odd.residue is None}
NOTHING_SEEN = ("closure", "all unregistered", "by functions", "scripted", "gated", "concatenated")
CODE = Path(odd_networks.__file__)


@pytest.fixture(autouse=True)
def _quiet_builders() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.nn.utils.weight_norm` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", "Using `torch.compile.module.` when there are global hooks", UserWarning)
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf", UserWarning)  # dynamo's
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
        yield


def built(odd: Odd) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return shaken(odd.build().eval())


def by_hand(dense: nn.Module, places: list[int]) -> nn.Module:
    """Return the network as one would build it without blocks: none is replaced, they are not there."""
    short = copy_network(dense)
    inner = next(module for module in short.modules() if isinstance(module, Plain))
    for place in sorted(places, reverse=True):
        inner.shorten(place)
    return short


def names(odd: Odd, places: list[int]) -> list[str]:
    return [odd.blocks.format(place) for place in places]


@pytest.mark.parametrize("name", WORKING)
def test_blocks_are_found(name: str) -> None:
    odd = WORKING[name]
    blocks = find_blocks(built(odd), IMAGES)
    assert [block.name for block in blocks] == names(odd, [0, 1, 2, 3])
    assert len({block.stage for block in blocks}) == odd.stages
    assert {block.residue for block in blocks[:1]} <= {odd.residue, "relu"}
    assert all(block.obstacle is None for block in blocks)


@pytest.mark.quick_cases(15)
@pytest.mark.parametrize("places", [[0], [2], [1, 3]], ids=str)
@pytest.mark.parametrize("name", WORKING)
def test_what_is_removed_is_as_if_it_had_not_been_built(name: str, places: list[int]) -> None:
    odd = WORKING[name]
    dense = built(odd)
    blocks = {block.name: block for block in find_blocks(dense, IMAGES)}
    gone = names(odd, places)
    pruned = remove_blocks(dense, {name: str(blocks[name].residue) for name in gone}, example=IMAGES)
    short = by_hand(dense, places)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        logits, untouched = pruned(IMAGES), dense(IMAGES)
        # A pre-activation in place is left of its block too.
        if name != "in place":
            torch.testing.assert_close(logits, short(IMAGES), rtol=1e-6, atol=1e-6)
    assert (logits - untouched).abs().max() > 1e-4
    check_counts(dense, pruned, short, [blocks[name] for name in gone])


def check_counts(dense: nn.Module, pruned: nn.Module, short: nn.Module, gone: list[Block]) -> None:
    with torch.compiler.set_stance("force_eager"):
        before, after, expected = (measure_cost(network, IMAGES[:1]) for network in (dense, pruned, short))
        macs = measure_block_macs(dense, gone, IMAGES[:1])
    assert after.macs == expected.macs == before.macs - sum(macs.values())
    assert after.parameters == expected.parameters
    # What two of them share, and nobody else, goes with both only.
    assert before.parameters - after.parameters >= sum(block.parameters for block in gone)
    gone_names = {name for name in dense.state_dict() if name.startswith(tuple(f"{block.name}." for block in gone))}
    assert dense.state_dict().keys() - pruned.state_dict().keys() >= gone_names
    assert not gone_names & pruned.state_dict().keys()
    assert pruned.state_dict().keys() <= dense.state_dict().keys()


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_go_on_running_or_could_not_run_is_refused(name: str) -> None:
    odd = REFUSED[name]
    dense = built(odd)
    if name in NOTHING_SEEN:
        with pytest.raises(PruningError, match=odd.refused):
            find_blocks(dense, IMAGES)
        with pytest.raises(PruningError, match="Plain chains"):
            find_blocks(odd_networks.Chain(), IMAGES)
        return
    blocks = find_blocks(dense, IMAGES)
    assert all(block.residue is None for block in blocks)
    assert [block.obstacle for block in blocks if not re.search(odd.refused, str(block.obstacle))] == []
    with pytest.raises(PruningError, match=rf"block blocks\.1 cannot go: .*({odd.refused})"):
        remove_blocks(dense, {"blocks.1": "identity"}, example=IMAGES)


def test_only_the_block_that_is_read_stays() -> None:
    blocks = find_blocks(odd_networks.ReadsOne(), IMAGES)
    assert [block.residue for block in blocks] == ["identity", "identity", None, "identity"]
    assert "RemovedBlock" in str(blocks[2].obstacle)


def test_a_block_that_runs_twice_stays_and_the_others_go() -> None:
    blocks = find_blocks(odd_networks.RunTwice(), IMAGES)
    assert [block.residue for block in blocks] == ["identity", None, "identity", "identity"]


@pytest.mark.quick_cases(6)
@pytest.mark.parametrize("name", [name for name, odd in WORKING.items() if odd.build.__name__ != "<lambda>"])
def test_tickets_of_them_train_and_come_back_as_they_were(name: str, tmp_path: Path) -> None:
    odd = WORKING[name]
    model = build_model(f"file:{CODE}:{odd.build.__name__}", Shape(image_size=(16, 16), num_classes=3))
    blocks = find_blocks(model)
    scores = BlockScores({block.name: block.depth for block in blocks}, criterion="random")
    ticket = prune_layers(model, scores, blocks=2, eligibility="identity")
    assert list(ticket.plan.removed) == [block.name for block in blocks[:2]]
    check_comes_back(ticket, tmp_path)
    if odd.trains:
        step(ticket.network)
    check_comes_back(ticket, tmp_path)


@pytest.mark.quick_cases(6)
@pytest.mark.parametrize("name", [name for name, odd in WORKING.items() if odd.trains])
def test_blocks_are_found_in_trained_networks_and_tickets_go_back(name: str) -> None:
    odd = WORKING[name]
    model = build_model(f"file:{CODE}:{odd.build.__name__}", Shape(image_size=(16, 16), num_classes=3))
    trained = Ticket.from_model(copy_network(model))
    step(trained.network)
    blocks = find_blocks(trained.network)
    assert [(block.name, block.residue) for block in blocks] == [
        (block.name, block.residue) for block in find_blocks(model)
    ]
    scores = BlockScores({block.name: block.depth for block in blocks}, criterion="random")
    found = prune_layers(trained, scores, blocks=1, eligibility="identity")
    back = rewind(found, Ticket.from_model(model), epoch=0)
    expected = remove_blocks(model, found.plan.removed)
    with torch.no_grad():
        assert torch.equal(back.model()(IMAGES), expected.eval()(IMAGES))


def step(network: nn.Module) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    nn.functional.cross_entropy(network.train()(IMAGES), torch.tensor([0, 1, 2])).backward()
    optimizer.step()
    assert any(not torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network.zero_grad(set_to_none=True)


def check_comes_back(ticket: Ticket, folder: Path) -> None:
    ticket.save(folder / "ticket.pt")
    loaded = load_ticket(folder / "ticket.pt", model_code=CODE)
    with torch.no_grad():
        assert torch.equal(loaded.model()(IMAGES), ticket.model()(IMAGES))
    assert loaded.sha256 == ticket.sha256
