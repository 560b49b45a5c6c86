"""Tickets whose blocks are named: the network without them, whoever ranks what."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import TINY, Run, check_failure

import robustprune as rp
from robustprune.data import ImageData
from robustprune.errors import PruningError
from robustprune.pruning import find_blocks
from robustprune.report.grouping import identity, name_method
from robustprune.sweep import Store, read_sweep, run_sweep
from robustprune.tickets.requests import Pruning
from robustprune.tickets.ticket import load_ticket


def test_it_is_the_ticket_of_the_scores_that_rank_these_lowest(few_digits: ImageData, tmp_path: Path) -> None:
    network = rp.build_model("resnet20", few_digits, width=4, seed=3)
    scores = rp.score_blocks(network, few_digits, "grasp", seed=0)
    ranked = rp.prune_layers(network, scores, blocks=1, data=few_digits)
    named = rp.prune_layers(network, blocks=list(ranked.plan.removed), data=few_digits)
    assert named.plan.removed == ranked.plan.removed
    assert named.plan.criterion is None
    assert named.sha256 == ranked.sha256
    named.save(tmp_path / "ticket.pt")
    assert load_ticket(tmp_path / "ticket.pt").plan == named.plan


def test_blocks_that_no_rule_makes_eligible_may_be_named(few_digits: ImageData) -> None:
    network = rp.build_model("resnet20", few_digits, width=4)
    first = next(block for block in find_blocks(network) if block.position == 0 and block.residue is not None)
    ticket = rp.prune_layers(network, blocks=[first.name], data=few_digits)
    assert list(ticket.plan.removed) == [first.name]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"blocks": ["layer9.9"]}, "no block 'layer9.9'"),
        ({"blocks": ["layer2.0"]}, "layer2.0 has to stay"),
        ({"blocks": []}, "name the blocks that go in a list"),
        ({"blocks": 1}, "by a number and their scores, by a budget"),
    ],
)
def test_what_cannot_go_is_refused(few_digits: ImageData, how: dict[str, object], said: str) -> None:
    network = rp.build_model("resnet20", few_digits, width=4)
    with pytest.raises(PruningError, match=said):
        rp.prune_layers(network, **how)  # type: ignore[arg-type]


def test_a_request_names_blocks_or_ranks_them() -> None:
    assert Pruning(blocks=["b", "a", "b"]).check().blocks == ("a", "b")
    assert Pruning("filter", criterion="l1", blocks=["a"]).check().criterion == "l1"
    with pytest.raises(PruningError, match="leave one of the two out"):
        Pruning(criterion="grasp", blocks=["a"]).check()
    for wrong in ([], 0, "layer1.1", [1]):
        with pytest.raises(PruningError, match="a number of at least 1, or a list of blocks by name"):
            Pruning(blocks=wrong)


def test_a_sweep_trains_what_is_named_and_matches_filters_to_it(tmp_path: Path) -> None:
    settings = [
        "model=resnet20", "model_options.width=4", "data.train_limit=100", "recipe.epochs=1", "country=null",
        "grid={pruning: [{method: layer, blocks: [layer1.1]}, {method: filter, criterion: l1, blocks: [layer1.1]}]}",
    ]  # fmt: skip
    (tmp_path / "named.yaml").write_text("evaluate: {limit: 50}")
    state = run_sweep(read_sweep(tmp_path / "named.yaml", settings=settings), tmp_path / "out", workers=1)
    assert not state.failed
    store = Store(tmp_path / "out")
    records = {run.name: rp.load_record(store.record(run.stage)) for run in state.plan.runs}
    layer, filters = records["layer without layer1.1 seed 0"], records["filter l1 without layer1.1 seed 0"]
    assert layer.model.plan["removed"].keys() == {"layer1.1"}
    assert filters.model.plan["match"]["removed"] == ["layer1.1"]
    assert "score" not in {stage.kind for stage in state.plan.stages.values() if stage.label.startswith("layer")}
    assert name_method(layer) == "layer ticket (without layer1.1)"
    assert [block.removed for block in layer.model.blocks if block.name == "layer1.1"] == [True]
    assert identity(layer)["blocks"] == ["layer1.1"]
    dense = records["dense seed 0"]
    assert layer.model.parameters < dense.model.parameters
    assert torch.isfinite(torch.tensor(layer.clean.accuracy))


def test_the_command_line_takes_a_number_or_names(run: Run) -> None:
    named = run("prune", *TINY, "--blocks", "layer2.1,layer1.1", "--out", "named.pt", "--json").json
    assert named["removed"] == ["layer1.1", "layer2.1"]
    assert named["criterion"] is None
    ranked = run("prune", *TINY, "--blocks", "2", "--criterion", "random", "--out", "two.pt", "--json").json
    assert ranked["blocks"] == len(ranked["removed"]) == 2
    assert "without layer1.1" in run("prune", *TINY, "--blocks", "layer1.1", "--out", "one.pt").out
    for given, code, said in (
        (["--blocks", "layer1.9"], 1, "no block 'layer1.9'"),
        (["--blocks", "0"], 2, "x>=1"),
        (["--blocks", "-3"], 2, "x>=1"),
        (["--blocks", "layer1.1", "--criterion", "grasp"], 2, "give one of the two"),
    ):
        check_failure(run("prune", *TINY, *given, "--out", "x.pt"), code, said)
