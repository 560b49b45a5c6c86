"""Filter tickets matched to layer tickets: counts worked out by hand, plans in the dense network's numbering."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Shape
from torch import Tensor, nn

from robustprune.attacks.requests import Attacks
from robustprune.cost import measure_cost
from robustprune.data import ImageData
from robustprune.errors import PruningError, PruningWarning, TicketError
from robustprune.evaluation import evaluate
from robustprune.models import build_model
from robustprune.pruning import (
    BlockScores,
    FilterScores,
    find_blocks,
    prunable_convolutions,
    remove_filters,
    score_blocks,
    score_filters,
)
from robustprune.runtime.files import write_sealed
from robustprune.tickets import prune_filters, prune_layers, prune_weights
from robustprune.tickets.header import Plan
from robustprune.tickets.ticket import Ticket, apply_plan, load_ticket
from robustprune.training import train

# At 32×32: filters in all, and of what width n blocks of each stage are.
TOTALS = {"resnet32": (1232, 5), "resnet56": (2128, 9)}


def drawn(network: nn.Module, seed: int = 0) -> FilterScores:
    """Return a random score for each filter that can go."""
    generator = torch.Generator().manual_seed(seed)
    widths = {name: network.get_submodule(name).out_channels for name in prunable_convolutions(network).values()}
    return FilterScores(
        {name: torch.rand(width, generator=generator, dtype=torch.float64) for name, width in widths.items()},
        criterion="by hand",
        seed=seed,
    )


def without_blocks(network: nn.Module, names: list[str]) -> Ticket:
    """Return the ticket that lacks exactly these blocks, by scores made for it."""
    order = {
        block.name: float(names.index(block.name)) if block.name in names else 99.0 for block in find_blocks(network)
    }
    ticket = prune_layers(network, BlockScores(order, criterion="by hand"), blocks=len(names))
    assert list(ticket.plan.removed) == names
    return ticket


def spread(count: int, first_stage: int) -> list[str]:
    """Return ``count`` blocks, as many as possible (7 of ResNet56) of a stage, then of the next."""
    stages = [first_stage, *(stage for stage in (3, 2, 1) if stage != first_stage)]
    return [f"layer{stage}.{place}" for stage in stages for place in range(1, 8)][:count]


MATCHED = [
    ("resnet32", ["layer1.1"]),
    ("resnet32", ["layer3.2"]),
    ("resnet32", ["layer1.1", "layer2.4", "layer3.2"]),
    ("resnet32", ["layer3.1", "layer1.3", "layer3.4", "layer2.2", "layer3.2"]),
    ("resnet56", ["layer2.5"]),
    ("resnet56", ["layer3.1", "layer3.5", "layer1.2"]),
    ("resnet56", spread(5, 3)),
    ("resnet56", spread(12, 1)),
    ("resnet56", spread(12, 3)),  # 7 · 128 + 5 · 64 = 1216 of the 981 that can go
]


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        pytest.param(
            name, b, id=f"{name}-{len(b)}-{b[0]}", marks=[pytest.mark.slow] * (len(b) != 3 or name != "resnet32")
        )
        for name, b in MATCHED
    ],
)
def test_filter_count_is_the_closest_feasible(name: str, blocks: list[str]) -> None:
    network = build_model(name, Shape())
    ticket = without_blocks(network, blocks)
    total, depth = TOTALS[name]
    width = {"layer1": 16, "layer2": 32, "layer3": 64}
    removed = sum(2 * width[block[:6]] for block in blocks)  # two convolutions in each block
    removable = sum(depth * (each - 1) for each in width.values())
    scores = drawn(network)
    for variant in ("global", "uniform"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            twin = prune_filters(network, scores, match=ticket, variant=variant)  # type: ignore[arg-type]
        reached = total - min(removed, removable)
        assert sum(len(indices) for indices in twin.plan.removed_filters.values()) == total - reached
        assert sum(m.out_channels for m in twin.network.modules() if isinstance(m, nn.Conv2d)) == reached
        match = twin.plan.match
        assert match is not None
        assert (match.by, match.target, match.reached, match.gap) == (
            *("filters", total - removed),
            *(reached, max(0, removed - removable)),
        )
        assert (match.sha256, match.removed) == (ticket.sha256, tuple(blocks))
        assert (twin.plan.method, twin.plan.variant, twin.plan.removed) == ("filter", variant, {})
        assert [str(warning.message) for warning in caught if match.gap == 0] == []
        if match.gap:
            assert removed == 1216
            assert match.gap == 235
            assert [warning.category for warning in caught] == [PruningWarning]
            assert "has 912 filters and the closest that removing filters can come to is 1,147, 235 more" in str(
                caught[0].message
            )
            assert all(layer.out_channels == 1 for n, layer in twin.network.named_modules() if n.endswith(".conv1"))


def brute_force(
    network: nn.Module, steps: list[Mapping[str, list[int]]], cost: Callable[[nn.Module], int], target: int
) -> int:
    """Return how close the closest of some really cut networks comes."""
    return min(abs(cost(remove_filters(network, step)) - target) for step in steps)


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("resnet20", "filters"),
        ("resnet20", "macs"),
        pytest.param("resnet20", "params", marks=pytest.mark.slow),
        pytest.param("wrn-16-4", "params", marks=pytest.mark.slow),
        pytest.param("torchvision:resnet50", "macs", marks=pytest.mark.slow),
        pytest.param("torchvision:mobilenet_v2", "filters", marks=pytest.mark.slow),
        pytest.param("torchvision:mobilenet_v2", "macs", marks=pytest.mark.slow),
    ],
)
def test_no_other_place_on_the_ranking_is_closer(name: str, by: str) -> None:
    options = {"width": 4} if name in ("resnet20", "wrn-16-4") else {}
    network = build_model(name, Shape(image_size=(32, 32)), **options)
    ticket = prune_layers(
        network, BlockScores({b.name: b.depth for b in find_blocks(network)}, criterion="x"), blocks=1,
        eligibility="identity",
    )  # fmt: skip
    scores = drawn(network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PruningWarning)
        twin = prune_filters(network, scores, match=ticket, match_by=by)  # type: ignore[arg-type]
    match = twin.plan.match
    assert match is not None
    attribute = {"filters": "filters", "macs": "macs", "params": "parameters"}[by]
    assert match.reached == getattr(measure_cost(twin.network), attribute)
    assert match.target == getattr(measure_cost(ticket.network), attribute)
    assert match.gap == match.reached - match.target
    # The filters that are gone are those of lowest score, and the networks with a few more or fewer are really cut.
    everything = sorted((float(v), n, i) for n, values in scores.items() for i, v in enumerate(values))
    gone = sum(len(indices) for indices in twin.plan.removed_filters.values())
    by_hand: list[Mapping[str, list[int]]] = []
    for count in {max(1, gone - 1), gone, gone + 1}:
        step: dict[str, list[int]] = {}
        for _, convolution, index in everything[:count]:
            step.setdefault(convolution, []).append(index)
        by_hand.append(step)
        if count == gone:
            found = {n: tuple(sorted(indices)) for n, indices in step.items()}
            assert found == twin.plan.removed_filters
    assert abs(match.gap) == brute_force(
        network, by_hand, lambda network: int(getattr(measure_cost(network), attribute)), match.target
    )


def test_uniform_takes_the_same_share_everywhere() -> None:
    network = build_model("resnet32", Shape(image_size=(8, 8)))
    twin = prune_filters(network, drawn(network), filters=280, variant="uniform")
    # Half of every first convolution: 5 · (8 + 16 + 32).
    gone = {name: len(indices) for name, indices in twin.plan.removed_filters.items()}
    assert gone == {f"layer{s}.{b}.conv1": 4 * 2**s for s in (1, 2, 3) for b in range(5)}
    for name, values in drawn(network).items():
        assert max(values[list(twin.plan.removed_filters[name])]) < values.median() + 0.1
        assert len(twin.scores[name]) == 8 * 2 ** int(name[5]) == 2 * gone[name]  # type: ignore[arg-type]


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    one, other = first.state_dict(), second.state_dict()
    return list(one) == list(other) and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.slow
def test_rounds_of_every_order_keep_the_dense_numbering(few_digits: ImageData, tmp_path: Path) -> None:
    network = build_model("resnet32", few_digits, width=4)
    dense = Ticket.from_model(network, few_digits)

    def filters(ticket: Ticket, seed: int) -> Ticket:
        return prune_filters(ticket, drawn(ticket.network, seed), filters=20)

    def layers(ticket: Ticket, seed: int) -> Ticket:
        return prune_layers(ticket, score_blocks(ticket.network, few_digits, "random", seed=seed), blocks=2)

    def weights(ticket: Ticket, seed: int) -> Ticket:
        return prune_weights(ticket, few_digits, "random", sparsity=0.3 + 0.2 * seed, seed=seed)

    for rounds in (
        (filters, filters, filters),
        (layers, filters),
        (filters, layers),
        (filters, layers, filters),
        (filters, layers, weights, weights),
    ):
        ticket = dense
        for seed, prune in enumerate(rounds):
            ticket = prune(ticket, seed)
        assert len(ticket.plan.earlier) == len(rounds) - 1
        gone = tuple(f"{name}." for name in ticket.plan.removed)
        assert not any(name.startswith(gone) for name in ticket.plan.removed_filters)
        # From the dense network in one go, as a lottery does that rewinds, and as loading does.
        assert same_weights(apply_plan(network, ticket.plan, ticket.masks), ticket.network)
        ticket.save(tmp_path / "ticket.pt")
        loaded = load_ticket(tmp_path / "ticket.pt")
        assert loaded.plan == ticket.plan
        assert loaded.scores == ticket.scores
        assert loaded.sha256 == ticket.sha256
        assert bool(ticket.masks) == (weights in rounds)
        assert all(torch.equal(mask, ticket.masks[name]) for name, mask in loaded.masks.items())
    ticket = filters(layers(filters(dense, 0), 1), 2)
    other = build_model("resnet32", few_digits, width=4, seed=1)
    rewound = apply_plan(other, ticket.plan)
    assert rewound.state_dict().keys() == ticket.network.state_dict().keys()
    name, indices = next(iter(ticket.plan.removed_filters.items()))
    kept = [i for i in range(other.get_submodule(name).out_channels) if i not in indices]
    assert torch.equal(rewound.get_parameter(f"{name}.weight"), other.get_parameter(f"{name}.weight")[kept])


def test_ticket_trains_and_is_evaluated(few_digits: ImageData, tmp_path: Path) -> None:
    network = build_model("resnet20", few_digits, width=4, seed=3)
    before = copy.deepcopy(network)
    scores = score_filters(network, list(prunable_convolutions(network).values()), few_digits, "snip", seed=4)
    assert (scores.criterion, scores.seed, scores.options["reduction"]) == ("snip", 4, "sum")
    assert scores.seconds > 0
    ticket = prune_filters(network, scores, filters=30, data=few_digits)
    assert same_weights(network, before)
    assert (ticket.plan.criterion, ticket.plan.seed, ticket.seed) == ("snip", 4, 3)
    trained = train(ticket, few_digits, epochs=1, country=None)
    trained.save(tmp_path / "trained.pt")
    loaded = load_ticket(tmp_path / "trained.pt")
    assert loaded.sha256 == trained.sha256
    record = evaluate(loaded, few_digits, attacks=Attacks(["fgsm"], epsilons=["8/255"]), limit=20)
    assert record.model.filters == measure_cost(network).filters - 30
    assert record.model.plan["removed_filters"] == {n: list(i) for n, i in ticket.plan.removed_filters.items()}


@pytest.mark.slow
def test_foreign_network(tmp_path: Path) -> None:
    network = build_model("torchvision:resnet18", Shape())
    ticket = prune_layers(
        network, BlockScores({b.name: 0.0 for b in find_blocks(network)}, criterion="x"), blocks=1,
        eligibility="identity",
    )  # fmt: skip
    twin = prune_filters(network, drawn(network), match=ticket)
    assert twin.plan.match is not None
    assert twin.plan.match.gap == 0
    twin.save(tmp_path / "twin.pt")
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(load_ticket(tmp_path / "twin.pt").model()(images), twin.model()(images))


@pytest.fixture(scope="module")
def small() -> nn.Module:
    return build_model("resnet20", Shape(channels=1, image_size=(8, 8)), width=4)


def test_requests_that_make_no_sense(small: nn.Module) -> None:
    scores = drawn(small)
    ticket = without_blocks(small, ["layer1.1"])
    other = without_blocks(build_model("resnet20", Shape(channels=1, image_size=(8, 8)), width=8), ["layer1.1"])
    some = next(iter(scores))
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "either which ticket to match or how many"),
        ({"filters": 3, "match": ticket}, "either which ticket to match or how many"),
        ({"filters": 0}, "asked for 0 filters, from 1 to 75 can go"),
        ({"filters": 76}, "asked for 76 filters, from 1 to 75 can go"),
        ({"filters": 3, "variant": "even"}, "no variant 'even'"),
        ({"match": ticket, "match_by": "latency"}, "matched by 'latency'; choose one of filters, macs, params"),
        ({"match": other}, r"options \{'width': 8\} and \{'width': 4\}"),
        ({"match": Ticket.from_model(small)}, "nothing to remove"),
    ]
    for arguments, match in cases:
        with pytest.raises(PruningError, match=match):
            prune_filters(small, scores, **arguments)
    wrong: list[tuple[dict[str, Tensor], str]] = [
        ({some: scores[some][1:]}, rf"scores of shape \(3,\) for {some}, which has 4 filters"),
        ({some: scores[some] * torch.nan}, "not finite"),
        ({"conv1": torch.rand(4)}, "'conv1', which is no convolution in a block"),
        ({"layer1.0.bn1": torch.rand(4)}, r"'layer1\.0\.bn1', which is no convolution in a block"),
        ({some: scores[some], "layer1.0.conv2": torch.rand(4)}, "two convolutions of one block"),
        ({"layer1.0.conv2": torch.rand(4)}, r"layer1\.0\.conv2 cannot go: .*outside the block"),
        ({}, "from 1 to 0 can go"),
    ]
    for values, match in wrong:
        with pytest.raises(PruningError, match=match):
            prune_filters(small, FilterScores(values, criterion="x"), filters=1)
    with pytest.raises(PruningError, match="none of the network's convolutions has a filter to spare"):
        prune_filters(small, FilterScores({}, criterion="x"), match=ticket)


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize(
    ("removed", "match"),
    [
        ({"layer1.1.conv1": [9]}, "cannot be carried out: .*there is no filter 9"),
        ({"layer1.1.conv1": [1, 1]}, "twice"),
        ({"layer1.1.conv1": [0, 1, 2, 3]}, "at least one has to stay"),
        ({"layer1.1.bn1": [0]}, "no convolution"),
        ({"conv1": [0]}, "in no residual block"),
        ({"layer1.1.conv2": [0]}, "outside the block"),
        ({"layer9.1.conv1": [0]}, "no convolution"),
        ({"layer1.1.conv1": [-1]}, r"header\.plan\.removed_filters.*greater than or equal to 0"),
        ({"layer1.1.conv1": ["1"]}, r"header\.plan\.removed_filters.*valid integer"),
        ({"layer1.1.conv1": 5}, r"header\.plan\.removed_filters"),
    ],
)
def test_plans_put_together_by_hand(small: nn.Module, tmp_path: Path, removed: dict[str, Any], match: str) -> None:
    path = tmp_path / "ticket.pt"
    prune_filters(small, drawn(small), filters=3).save(path)
    content = torch.load(path, weights_only=True)
    content["header"]["plan"]["removed_filters"] = removed
    write_sealed(path, content)
    with pytest.raises(TicketError, match=match) as caught:
        load_ticket(path)
    assert "\n" not in str(caught.value)
    if "header" not in match:
        with pytest.raises(TicketError, match=match):
            apply_plan(small, Plan(method="filter", removed_filters=removed))


def test_filters_of_a_removed_block_are_no_plan(small: nn.Module) -> None:
    plan = Plan(method="filter", removed={"layer1.1": "identity"}, removed_filters={"layer1.1.conv1": (0,)})
    with pytest.raises(TicketError, match=r"'layer1\.1\.conv1' is no convolution"):
        apply_plan(small, plan)
