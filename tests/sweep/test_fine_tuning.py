"""Fine-tuning in a sweep: the trained network is cut, and what is left goes on by a recipe of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import robustprune as rp
from robustprune.data import ImageData
from robustprune.errors import SweepError
from robustprune.sweep import run_here
from robustprune.sweep.resolve import plan_runs
from robustprune.sweep.settings import RunSettings, expand
from robustprune.tickets.finding import check_possible
from robustprune.tickets.requests import Pruning
from robustprune.tickets.ticket import load_ticket

EXAMPLES = Path(__file__).parents[2] / "examples"
SETTINGS: dict[str, Any] = {
    "model": "resnet20",
    "model_options": {"width": 2},
    "recipe": {"epochs": 2, "batch_size": 64},
    "evaluate": {"limit": 20},
    "country": None,
}
TUNED = {"criterion": "snip", "blocks": 2, "at_init": False, "rewind": "none"}
TEACHING = {"epochs": 1, "learning_rate": 0.01, "distill": 0.5}


def test_a_ticket_goes_on_from_its_own_weights_by_its_own_recipe(few_digits: ImageData, tmp_path: Path) -> None:
    run = RunSettings(**SETTINGS, ticket_recipe=TEACHING, pruning=TUNED)
    dense_run, ticket_run = run_here("tuned", [run.as_dense(), run], few_digits, tmp_path, None)
    dense, tuned = load_ticket(dense_run.ticket), load_ticket(ticket_run.ticket)
    # The same by hand.
    recipe = rp.Recipe("quick", epochs=2, batch_size=64)
    network = rp.train(rp.build_model("resnet20", few_digits, width=2, seed=0), few_digits, recipe, country=None)
    assert dense.sha256 == network.sha256
    cut = rp.prune_layers(network, rp.score_blocks(network.network, few_digits, "snip"), blocks=2)
    by_hand = rp.train(cut, few_digits, recipe, teacher=network, country=None, **TEACHING)
    assert tuned.sha256 == by_hand.sha256
    assert tuned.plan.rewound_to is None
    assert tuned.training["teacher"] == dense.sha256
    assert tuned.training["recipe"]["learning_rate"] == 0.01
    assert [each["epochs"] for each in tuned.earlier_training] == [2]


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("robust-pruning.yaml")))
def test_budgets_of_the_examples_can_be_met(path: Path) -> None:
    settings = yaml.safe_load(path.read_text())
    images = torch.zeros(10, 3, 32, 32, dtype=torch.uint8)
    network = rp.build_model(settings["model"], rp.as_data(train=(images, torch.arange(10))))
    for budget in settings["grid"]["pruning.budget"]:
        check_possible(network, Pruning(criterion="snip", budget=budget, search="beam"))


def test_the_dense_network_does_not_depend_on_how_tickets_are_trained(few_digits: ImageData) -> None:
    taught = {**SETTINGS["recipe"], "distill": 0.5}
    others = [
        {"recipe": taught},
        {"recipe": {**taught, "distill_temperature": 2}},
        {"ticket_recipe": {"epochs": 1}},
        {},
    ]
    for further in others:
        runs = expand({**SETTINGS, "pruning": TUNED, **further}, "a sweep")
        plan, _ = plan_runs(runs, few_digits)
        dense = {address for address, stage in plan.stages.items() if stage.kind == "dense"}
        assert len(dense) == 1
        assert len(plan.comparisons) == 1
        further["dense"] = dense
    assert all(other["dense"] == others[0]["dense"] for other in others)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ticket_recipe": {"epoch": 3}}, "no setting 'epoch'. Did you mean 'epochs'"),
        ({"ticket_recipe": {"name": "paper"}}, "'paper' is a whole recipe"),
        ({"pruning": {**TUNED, "at_init": True}}, "a ticket found at initialization starts there"),
        (
            {"pruning": {**TUNED, "rewind": 1}, "ticket_recipe": {"epochs": 3}},
            "with the dense network's schedule",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(few_digits: ImageData, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SweepError, match=said):
        plan_runs(expand({**SETTINGS, "pruning": TUNED, **settings}, "a sweep"), few_digits)
