"""Layers or filters, whichever costs less: against both candidates, made by hand and compared by the formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support import TINY, Run, check_failure

import robustprune as rp
from robustprune.cost import measure_cost
from robustprune.data import ImageData
from robustprune.errors import PruningError
from robustprune.metrics import linear_cka
from robustprune.report.grouping import identity, name_method
from robustprune.sweep import run_here
from robustprune.sweep.resolve import plan_runs
from robustprune.sweep.settings import RunSettings
from robustprune.tickets.finding import check_possible, cut_in_rounds
from robustprune.tickets.requests import Pruning
from robustprune.tickets.ticket import Ticket, load_ticket

JOINT = {"method": "joint", "criterion": "snip", "match_by": "macs"}


@pytest.fixture(scope="module")
def network(few_digits: ImageData) -> torch.nn.Module:
    return rp.train(rp.build_model("resnet20", few_digits, width=2), few_digits, epochs=1, country=None).network


def features(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    caught: list[torch.Tensor] = []
    (head,) = [module for module in network.modules() if isinstance(module, torch.nn.Linear)]
    handle = head.register_forward_pre_hook(lambda _module, inputs: caught.append(inputs[0]))
    with torch.no_grad():
        network.eval()(images)
    handle.remove()
    return caught[0].double()


def candidates(before: Ticket | torch.nn.Module, data: ImageData) -> tuple[Ticket, Ticket]:
    own = before.network if isinstance(before, Ticket) else before
    layers = rp.prune_layers(before, rp.score_blocks(own, data, "snip"), blocks=1)
    scores = rp.score_filters(own, list(rp.prunable_convolutions(own).values()), data, "snip")
    return layers, rp.prune_filters(before, scores, match=layers, match_by="macs")


def test_each_round_goes_on_with_the_candidate_that_is_more_alike(
    network: torch.nn.Module, few_digits: ImageData, tmp_path: Path
) -> None:
    images = few_digits.require("train").images / 255
    before: Ticket | torch.nn.Module = network
    for _ in range(2):
        own = before.network if isinstance(before, Ticket) else before
        both = candidates(before, few_digits)
        whole = features(own, images)
        alike = [linear_cka(whole, features(each.network, images), batch_size=2048) for each in both]
        before = both[int(np.argmax(alike))]
    assert isinstance(before, Ticket)
    dense = Ticket.from_model(network, few_digits)
    found = cut_in_rounds(dense, few_digits, Pruning(rounds=2, blocks_per_round=1, **JOINT).check(), seed=0)
    assert found.sha256 == before.sha256
    assert found.plan.decided_by == "cka"
    assert measure_cost(found.network).macs < 0.9 * measure_cost(network).macs
    found.save(tmp_path / "t.pt")
    assert load_ticket(tmp_path / "t.pt").plan == found.plan


def write_criterion(folder: Path, sign: int) -> str:
    """Write one that prefers the network of more, or of fewer, convolutions."""
    (folder / "mine.py").write_text(
        "from robustprune.pruning import Criterion\n\n\n"
        "class Deep(Criterion):\n"
        "    def score(self, model, blocks, data, seed):\n        return {}\n\n"
        "    def ticket_scores(self, model, data, seed):\n"
        f"        return lambda left: {sign} * sum('Conv' in type(each).__name__ for each in left.modules())\n"
    )
    return f"{folder}/mine.py:Deep"


@pytest.mark.parametrize(("sign", "method"), [(-1, "layer"), (1, "filter")])
def test_the_criterion_decides(
    network: torch.nn.Module, few_digits: ImageData, tmp_path: Path, sign: int, method: str
) -> None:
    asked = Pruning(blocks=1, decide_by=write_criterion(tmp_path, sign), **JOINT)
    check_possible(network, asked)
    assert cut_in_rounds(Ticket.from_model(network, few_digits), few_digits, asked, seed=0).plan.method == method


@pytest.mark.filterwarnings("ignore::robustprune.errors.PruningWarning")  # the closest that filters can come
def test_layers_go_where_there_are_too_few_filters(few_digits: ImageData, tmp_path: Path) -> None:
    network = rp.build_model("resnet20", few_digits, width=2)
    asked = Pruning(blocks=7, eligibility="identity", decide_by=write_criterion(tmp_path, 1), **JOINT)
    found = cut_in_rounds(Ticket.from_model(network, few_digits), few_digits, asked, seed=0)
    assert found.plan.method == "layer"
    scores = rp.score_filters(network, list(rp.prunable_convolutions(network).values()), few_digits, "snip")
    filters = rp.prune_filters(network, scores, match=found, match_by="macs")
    assert filters.plan.match is not None
    assert filters.plan.match.gap > 0.05 * filters.plan.match.target


def test_a_sweep_decides_again_where_the_file_has_changed(few_digits: ImageData, tmp_path: Path) -> None:
    found = []
    for sign in (1, -1):
        asked = Pruning(blocks=1, decide_by=write_criterion(tmp_path, sign), **JOINT)
        plan, _ = plan_runs([RunSettings(model="resnet20", model_options={"width": 2}, pruning=asked)], few_digits)
        found.append({stage.kind: address for address, stage in plan.stages.items()})
    assert found[0]["decide"] != found[1]["decide"]
    assert found[0]["score"] == found[1]["score"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({**JOINT, "blocks": ["layer1.1"]}, "takes a number of blocks"),
        ({**JOINT, "budget": "macs<=60%"}, "takes a number of blocks"),
        ({"criterion": "snip", "blocks": 1, "decide_by": "kl"}, "belongs to the method 'joint'"),
    ],
)
def test_what_cannot_be_asked(asked: dict[str, object], said: str) -> None:
    with pytest.raises(PruningError, match=said):
        Pruning(**asked).check()


def test_what_decides_has_to_score_tickets_and_what_ranks_filters(network: torch.nn.Module) -> None:
    with pytest.raises(PruningError, match=r"l1 does not score whole tickets.* or a gradient criterion$"):
        check_possible(network, Pruning(blocks=1, decide_by="l1", **JOINT))
    with pytest.raises(PruningError, match="ranks are of blocks against each other; name one criterion"):
        check_possible(network, Pruning(blocks=1, decide_by="snip+cka", **JOINT))
    with pytest.raises(PruningError, match="kl does not score filters"):
        check_possible(network, Pruning(blocks=1, **{**JOINT, "criterion": "kl"}))


def test_a_sweep_comes_to_the_same_ticket(few_digits: ImageData, tmp_path: Path) -> None:
    asked = Pruning(rounds=2, blocks_per_round=1, fine_tune_epochs=1, **JOINT).check()
    settings = {"model": "resnet20", "model_options": {"width": 2}, "country": None, "evaluate": {"limit": 50}}
    run = RunSettings(**settings, recipe={"epochs": 1, "batch_size": 64}, pruning=asked)
    (found,) = run_here("joint", [run], few_digits, tmp_path, None)
    ticket, record = load_ticket(found.ticket), found.read()
    assert ticket.plan.decided_by == "cka"
    assert len(ticket.plan.earlier) == 1
    assert name_method(record).startswith("joint ticket (snip, by cka, 2 blocks, 2 rounds")
    assert identity(record)["method"] == "joint"


def test_the_command_line_goes_jointly(run: Run) -> None:
    how = ["prune", *TINY, "--method", "joint", "--criterion", "snip", "--match-by", "macs", "--out", "t.pt"]
    asked = ["--rounds", "2", "--blocks-per-round", "1", "--decide-by", "true_drop:samples=50"]
    found = run(*how, *asked, "--json").json
    assert (found["decided_by"], found["rounds"]) == ("true_drop:samples=50", 2)
    assert found["after"]["macs"] < found["before"]["macs"]
    assert "true_drop:samples=50 chose what went in each round" in run(*how, *asked).out
    check_failure(run(*how, "--blocks", "1", "--decide-by", "l1"), 1, "l1 does not score whole tickets")
    check_failure(run(*how, "--blocks", "1", "--budget", "macs<=60%"), 2, "belongs to --method layer")
    check_failure(run(*how, "--blocks", "layer1.1"), 2, "--method joint takes a number of --blocks")
