"""Tickets within a budget: the network that is left keeps within it, and is the one that all sets tried show."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import TINY, Run, check_failure

import robustprune as rp
from robustprune.cost import measure_cost
from robustprune.data import ImageData
from robustprune.errors import PruningError, SweepError
from robustprune.pruning import Subset, find_blocks, removable_subsets, remove_blocks
from robustprune.report.grouping import name_method
from robustprune.sweep import Store, read_sweep, run_sweep
from robustprune.sweep.resolve import plan_runs
from robustprune.sweep.settings import RunSettings
from robustprune.tickets.requests import Pruning
from robustprune.tickets.ticket import load_ticket


@pytest.fixture(scope="module")
def network(few_digits: ImageData) -> torch.nn.Module:
    return rp.build_model("resnet20", few_digits, width=2, seed=1)


@pytest.fixture(scope="module")
def left(network: torch.nn.Module) -> dict[Subset, torch.nn.Module]:
    """The network without every set of blocks that can go, the empty one first."""
    blocks = find_blocks(network)
    residues = {block.name: str(block.residue) for block in blocks}
    return {
        removed: remove_blocks(network, {name: residues[name] for name in removed})
        for removed in removable_subsets(blocks)
    }


@pytest.mark.parametrize("search", ["beam", "exhaustive", "evolution"])
@pytest.mark.parametrize(("cost", "share"), [("macs", 0.8), ("parameters", 0.7)])
def test_it_loses_the_blocks_of_the_lowest_sum(
    network: torch.nn.Module,
    left: dict[Subset, torch.nn.Module],
    few_digits: ImageData,
    search: str,
    cost: str,
    share: float,
) -> None:
    costs = {removed: getattr(measure_cost(each), cost) for removed, each in left.items()}
    scores = rp.score_blocks(network, few_digits, "snip")
    ticket = rp.prune_layers(network, scores, budget=f"{cost}<={100 * share:g}%", search=search)
    within = [removed for removed, each in costs.items() if each <= share * costs[()]]
    expected = min(within, key=lambda removed: sum(scores[name] for name in removed))
    assert tuple(ticket.plan.removed) == expected
    assert getattr(measure_cost(ticket.network), cost) == costs[expected]
    assert ticket.sha256 == rp.prune_layers(network, blocks=list(expected)).sha256


@pytest.mark.parametrize("choice", ["lowest", "highest", "random-per-stage"])
def test_greedy_is_as_few_blocks_of_the_ranking_as_it_takes(
    network: torch.nn.Module, few_digits: ImageData, choice: str
) -> None:
    scores = rp.score_blocks(network, few_digits, "random")
    whole = measure_cost(network).macs
    ticket = rp.prune_layers(network, scores, budget="macs<=80%", choice=choice)  # type: ignore[arg-type]
    count = len(ticket.plan.removed)
    assert measure_cost(ticket.network).macs <= 0.8 * whole
    same, fewer = (rp.prune_layers(network, scores, blocks=each, choice=choice) for each in (count, count - 1))  # type: ignore[arg-type]
    assert list(ticket.plan.removed) == list(same.plan.removed)
    assert measure_cost(fewer.network).macs > 0.8 * whole


def test_whole_tickets_are_scored_as_what_is_left_of_the_network(
    network: torch.nn.Module, left: dict[Subset, torch.nn.Module], few_digits: ImageData
) -> None:
    wanted = [(), ("layer2.1",), ("layer1.1", "layer3.2")]
    images = few_digits.require("train").images / 255

    def loss(each: torch.nn.Module) -> float:
        with torch.no_grad():
            logits = each.eval()(images).double()
        return float(torch.nn.functional.cross_entropy(logits, few_digits.require("train").labels))

    drop = rp.score_tickets(network, few_digits, "true_drop")  # of all images, as there are so few
    sums = rp.score_tickets(network, few_digits, "synflow")
    for removed in wanted:
        assert drop(removed) == pytest.approx(loss(network) - loss(left[removed]), abs=1e-6)
        by_weight = rp.score_weights(left[removed], few_digits, "synflow")
        assert sums(removed) == pytest.approx(sum(float(each.sum()) for each in by_weight.values()))
    blocks = rp.score_blocks(network, few_digits, "naswot")
    codes = rp.score_tickets(network, few_digits, "naswot")
    assert codes(("layer2.1",)) == pytest.approx(-blocks["layer2.1"])
    with pytest.raises(PruningError, match=r"'layer9\.9' is no block"):
        codes(("layer9.9",))


def test_the_best_whole_ticket_goes(network: torch.nn.Module, few_digits: ImageData, tmp_path: Path) -> None:
    scores = rp.score_tickets(network, few_digits, "true_drop", samples=100)
    ticket = rp.prune_layers(network, scores, budget="params<=75%", search="exhaustive")
    best = max(scores.known, key=lambda removed: scores.known[removed])
    assert tuple(ticket.plan.removed) == best
    assert measure_cost(ticket.network).parameters <= 0.75 * measure_cost(network).parameters
    ticket.save(tmp_path / "ticket.pt")
    plan = load_ticket(tmp_path / "ticket.pt").plan
    assert (plan.budget, plan.search, plan.objective) == ("parameters<=75%", "exhaustive", "ticket")
    beam = rp.prune_layers(network, scores, budget="params<=75%", search="beam")
    assert scores(tuple(beam.plan.removed)) <= scores(best)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"budget": "macs<=100%"}, "keeps within macs<=100% as it is"),
        ({"budget": "macs<=10%"}, r"no set of blocks brings the network within macs<=10%.*--eligibility identity"),
        ({"budget": "mac<=60%"}, "Did you mean 'macs'"),
        ({"budget": "macs<=80%", "blocks": 2}, "by a budget and scores"),
        ({"budget": "macs<=80%", "search": "bem"}, "no search 'bem'"),
        ({"budget": "macs<=80%", "search": "beam", "choice": "highest"}, "which only the search greedy"),
    ],
)
def test_what_cannot_be_is_refused(
    network: torch.nn.Module, few_digits: ImageData, how: dict[str, object], said: str
) -> None:
    scores = rp.score_blocks(network, few_digits, "random")
    with pytest.raises(PruningError, match=said):
        rp.prune_layers(network, scores, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"budget": "macs<=60%", "blocks": 1}, "leave one of the two out"),
        ({"search": "beam", "blocks": 1}, "give one, such as macs<=60%"),
        ({"budget": "macs<=60%", "search": "beam", "choice": "highest"}, "one of a ranking"),
        ({"method": "weight", "sparsity": 0.5, "budget": "macs<=60%"}, "no use for budget"),
        ({"budget": "60%"}, "COST<=NUMBER"),
    ],
)
def test_requests_that_make_no_sense(asked: dict[str, object], said: str) -> None:
    with pytest.raises(PruningError, match=said):
        Pruning(criterion="snip", **asked).check()


def test_the_command_line_searches(run: Run) -> None:
    how = ["prune", *TINY, "--criterion", "snip", "--out", "t.pt"]
    no_tickets = ["--budget", "macs<=80%", "--objective", "ticket"]
    found = run(*how, "--budget", "params<=80%", "--search", "beam:width=4", "--json").json
    assert found["after"]["parameters"] <= 0.8 * found["before"]["parameters"]
    assert (found["budget"], found["search"], found["objective"]) == ("parameters<=80%", "beam:width=4", "blocks")
    said = run(*how, "--budget", "macs<=90%", "--objective", "ticket").out
    assert "kept by the search greedy of the score of the whole ticket" in " ".join(said.split())
    for given, code, words in (
        (["--budget", "macs<=80%", "--blocks", "1"], 2, "give one of the two"),
        (["--search", "beam", "--blocks", "1"], 2, "add --budget"),
        (["--budget", "macs<=5%"], 1, "no set of blocks brings"),
    ):
        check_failure(run(*how, *given), code, words)
    how[how.index("snip")] = "l1"
    check_failure(run(*how, *no_tickets), 1, "does not score whole tickets")


def test_addresses_spell_out_what_a_search_is_asked(few_digits: ImageData) -> None:
    def addresses(**asked: object) -> list[str]:
        run = RunSettings(model="resnet20", model_options={"width": 2}, pruning=Pruning(criterion="l1", **asked))
        plan, _ = plan_runs([run], few_digits)
        return [address for address in plan.stages if not address.startswith("score")]

    by_beam = addresses(budget="macs<=80%", search="beam")
    assert by_beam == addresses(budget=" macs<= 80 %", search="beam:width=8")
    others = [{"search": "beam:width=9"}, {"budget": "macs<=81%"}, {"search": "greedy"}]
    for other in others:
        assert not {*by_beam} & {*addresses(**{"budget": "macs<=80%", "search": "beam", **other})}
    with pytest.raises(SweepError, match="no set of blocks brings"):
        addresses(budget="macs<=5%")


@pytest.mark.slow
def test_a_sweep_searches_and_matches_filters_to_what_it_finds(tmp_path: Path) -> None:
    shared = ["model=resnet20", "model_options.width=2", "data.train_limit=100", "recipe.epochs=1", "country=null"]
    tickets = [
        "{criterion: snip, budget: macs<=80%, search: beam}",
        "{criterion: true_drop, samples: 50, budget: macs<=80%, search: beam, objective: ticket}",
        "{method: filter, criterion: l1, budget: macs<=80%, match_by: macs}",
    ]
    (tmp_path / "s.yaml").write_text("evaluate: {limit: 50}")
    asked = [*shared, f"grid={{pruning: [{', '.join(tickets)}]}}"]
    state = run_sweep(read_sweep(tmp_path / "s.yaml", settings=asked), tmp_path / "out", workers=1)
    assert not state.failed
    store = Store(tmp_path / "out")
    records = {run.name: rp.load_record(store.record(run.stage)) for run in state.plan.runs}
    assert list(records) == [
        *("dense seed 0", "layer snip macs<=80% beam seed 0", "layer true_drop macs<=80% beam by ticket seed 0"),
        "filter l1 macs<=80% greedy seed 0",
    ]
    dense, by_blocks, by_ticket, _ = records.values()
    for each in (by_blocks, by_ticket):
        assert each.model.macs <= 0.8 * dense.model.macs
        assert each.model.plan["search"] == "beam:width=8"
    assert name_method(by_blocks) == "layer ticket (snip, macs<=80%, beam:width=8)"
    stages = [stage for stage in state.plan.stages.values() if stage.kind == "prune"]
    assert {stage.inputs.get("search") for stage in stages} == {"beam:width=8", "greedy"}
