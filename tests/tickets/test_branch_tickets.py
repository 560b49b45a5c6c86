"""Tickets without attention or MLP branches: saved, loaded, rewound, exported, swept."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
import torch
from support import Run, check_failure
from torch import Tensor
from transformer_networks import WIDTH, Transformer, transformer

import robustprune as rp
from robustprune.errors import PruningError, TicketError
from robustprune.tickets.header import Plan
from robustprune.tickets.requests import Pruning
from robustprune.tickets.rewinding import rewind
from robustprune.tickets.ticket import apply_plan

IMAGES = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
DATA = rp.as_data(train=(torch.arange(6 * 3072).reshape(6, 3, 32, 32).to(torch.uint8), torch.arange(6) % 3))
CODE = Path(__file__).parents[1] / "transformer_networks.py"
GONE = {"blocks.2.attn": "identity"}
PARTS = {"blocks.2.norm1": "zero"}


def logits(ticket: rp.Ticket) -> Tensor:
    with torch.no_grad():
        return ticket.model()(IMAGES)


def silenced(network: torch.nn.Module, *names: str) -> Tensor:
    handles = [network.get_submodule(n).register_forward_hook(lambda _m, _i, output: 0 * output) for n in names]
    with torch.no_grad():
        found = network(IMAGES)
    for handle in handles:
        handle.remove()
    return found


def test_a_ticket_goes_the_whole_way(tmp_path: Path) -> None:
    dense = transformer("own")
    scores = rp.score_blocks(dense, DATA, "bi", unit="attention")
    ticket = rp.prune_layers(dense, scores, blocks=1, data=DATA)
    assert ticket.plan.unit == "attention"
    assert len(ticket.plan.removed) == 1
    torch.testing.assert_close(logits(ticket), silenced(dense, *ticket.plan.removed), rtol=1e-5, atol=1e-5)
    ticket.save(tmp_path / "t.pt")
    loaded = rp.load_ticket(tmp_path / "t.pt", into=Transformer())
    assert loaded.sha256 == ticket.sha256
    assert torch.equal(logits(loaded), logits(ticket))
    assert torch.equal(logits(rewind(loaded, dense, 0)), logits(ticket))
    exported = rp.export_model(ticket, tmp_path / "t.pt2", "torch-export")
    assert exported.largest_difference < 1e-5
    record = rp.evaluate(loaded, rp.as_data(train=DATA.train, test=DATA.train))
    assert record.model.removed == list(ticket.plan.removed)


def test_branches_are_named_and_go_in_rounds(tmp_path: Path) -> None:
    dense = transformer("own")
    ticket = rp.prune_layers(dense, blocks=["blocks.2.attn"], unit="attention", data=DATA)
    assert (ticket.plan.removed, ticket.plan.removed_parts) == (GONE, PARTS)
    again = rp.prune_layers(ticket, blocks=["blocks.1.mlp"], unit="mlp")
    assert list(again.plan.removed) == ["blocks.2.attn", "blocks.1.mlp"]
    torch.testing.assert_close(logits(again), silenced(dense, "blocks.2.attn", "blocks.1.mlp"), rtol=1e-5, atol=1e-5)
    again.save(tmp_path / "t.pt")
    assert torch.equal(logits(rp.load_ticket(tmp_path / "t.pt", into=Transformer())), logits(again))
    further = rp.prune_layers(again, blocks=["blocks.2.mlp"], unit="mlp")  # whose attention is gone
    expected = silenced(dense, "blocks.2.attn", "blocks.1.mlp", "blocks.2.mlp")
    torch.testing.assert_close(logits(further), expected, rtol=1e-5, atol=1e-5)
    further.save(tmp_path / "u.pt")
    assert torch.equal(logits(rp.load_ticket(tmp_path / "u.pt", into=Transformer())), logits(further))
    whole = rp.prune_layers(again, blocks=["blocks.2"])
    assert list(whole.plan.removed) == ["blocks.1.mlp", "blocks.2"]
    assert list(whole.plan.removed_parts) == ["blocks.1.norm2"]
    torch.testing.assert_close(logits(whole), expected, rtol=1e-5, atol=1e-5)


def test_branches_go_within_a_budget() -> None:
    dense = transformer("own")
    whole, own = rp.measure_cost(dense, IMAGES).parameters, 4 * WIDTH**2 + 6 * WIDTH
    budget = f"parameters<={whole - own - 1}"  # one branch is too few
    scores = rp.score_blocks(dense, DATA, "bi", unit="attention")
    ticket = rp.prune_layers(dense, scores, budget=budget, eligibility="identity", data=DATA)
    assert set(ticket.plan.removed) == set(sorted(scores, key=lambda name: scores[name])[:2])
    tickets = rp.score_tickets(dense, DATA, "kl", unit="attention")
    found = rp.prune_layers(dense, tickets, budget=budget, search="exhaustive", eligibility="identity", data=DATA)
    assert found.plan.unit == "attention"
    assert rp.measure_cost(found.network).parameters == whole - own * len(found.plan.removed)
    best = max((gone for count in (2, 3) for gone in combinations(scores, count)), key=tickets)
    assert set(found.plan.removed) == set(best)


def test_a_plan_removes_with_a_branch_only_what_belongs_to_it() -> None:
    plan = Plan(method="layer", unit="attention", removed=GONE, removed_parts={"norm": "identity"})
    with pytest.raises(TicketError, match="removes 'norm', which is no residual block"):
        apply_plan(rp.Ticket.from_model(transformer("own"), DATA).network, plan)


def test_what_does_not_fit_is_said() -> None:
    dense = transformer("own")
    scores = rp.score_blocks(dense, DATA, "random", unit="mlp")
    with pytest.raises(PruningError, match="scores are of the unit 'mlp', not 'attention'"):
        rp.prune_layers(dense, scores, blocks=1, unit="attention")
    with pytest.raises(PruningError, match=r"no block 'blocks\.1'"):
        rp.prune_layers(dense, blocks=["blocks.1"], unit="mlp", data=DATA)
    with pytest.raises(PruningError, match="unit 'mlp' belongs to the method 'layer'"):
        Pruning("weight", criterion="magnitude", sparsity=0.5, unit="mlp").check()


def test_commands_know_units(run: Run, tmp_path: Path) -> None:
    model = ("--model", f"file:{CODE}:Transformer", "--dataset", "digits", "--image-size", "32", "--channels", "3")
    listed = run("blocks", *model, "--unit", "attention", "--json").json
    assert listed["unit"] == "attention"
    assert [block["name"] for block in listed["blocks"]] == [f"network.blocks.{number}.attn" for number in range(3)]
    assert "Attention branches" in run("blocks", *model, "--unit", "attention").out
    out = ("--unit", "mlp", "--criterion", "random", "--blocks", "1", "--out", "t.pt")
    found = run("prune", *model, *out, "--json").json
    assert found["unit"] == "mlp"
    assert found["removed"][0].endswith(".mlp")
    assert "removed" in run("prune", *model, *out).out
    check_failure(run("blocks", "--model", "resnet20", "--unit", "mlp"), 1, "no MLP branch")
    check_failure(
        run("prune", "--model", "resnet20", "--method", "weight", "--sparsity", "0.5", *out[:2], *out[-2:]), 2, "--unit"
    )


@pytest.mark.slow
def test_a_sweep_removes_branches(run: Run) -> None:
    settings = {
        "model": f"file:{CODE}:Transformer",
        "data": {"name": "digits", "image_size": 32, "channels": 3, "train_limit": 60},
        "recipe": {"epochs": 1},
        "pruning": {"criterion": "random", "blocks": 1, "unit": "attention"},
    }
    Path("sweep.yaml").write_text(json.dumps(settings))
    assert run("sweep", "sweep.yaml", "--out", "found", "--workers", "1").code == 0
    removed = run("query", "found", "--columns", "removed", "--json").json
    assert "network.blocks." in str(removed)
    assert ".attn" in str(removed)
