"""Addresses follow what decides the outcome, defaults included, and nothing else."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustprune.attacks import registry
from robustprune.attacks.requests import Attacks
from robustprune.data import load_data
from robustprune.errors import SweepError
from robustprune.evaluation import Evaluation
from robustprune.sweep.expand import expand
from robustprune.sweep.graph import Plan
from robustprune.sweep.resolve import plan_runs
from robustprune.sweep.spec import DataSettings, EvaluateSettings, TrainSettings
from robustprune.training import recipes

SMALL: dict[str, Any] = {
    "model": "resnet20",
    "model_options": {"width": 4},
    "data": {"train_limit": 100},
    "evaluate": {"attacks": ["pgd"], "corruptions": ["fog"], "ood": ["noise"], "detectors": ["msp", "knn"]},
    "grid": {"criterion": ["snip"], "blocks": [1, 2], "seed": [0]},
}


def plan(**changes: Any) -> Plan:
    """Return a plan less its comparisons, which change with any of their runs."""
    found = whole_plan(**changes)
    found.stages = {address: stage for address, stage in found.stages.items() if stage.kind != "compare"}
    return found


def whole_plan(**changes: Any) -> Plan:
    runs = [run.model_dump(mode="json") for run in expand({**SMALL, **changes}, "here")]
    return Plan.from_json(plan_runs(runs, tell=lambda _label, _share: None))


def kinds(addresses: Any) -> list[str]:
    return sorted(address.partition("-")[0] for address in addresses)


def test_what_runs_have_in_common_is_one_stage() -> None:
    found = plan()
    assert [run.name for run in found.runs] == ["dense seed 0", "layer snip 1 seed 0", "layer snip 2 seed 0"]
    assert kinds(found.stages) == [
        "dense",
        "evaluate",
        "evaluate",
        "evaluate",
        "prune",
        "prune",
        "score",
        "train",
        "train",
    ]
    seen: set[str] = set()
    for address, stage in found.stages.items():
        assert set(stage.needs.values()) <= seen  # what is needed comes first
        seen.add(address)


def test_tickets_are_compared_with_the_dense_network_over_all_seeds() -> None:
    found = whole_plan(grid={"criterion": ["snip"], "blocks": [1, 2], "seed": [0, 1]})
    (comparison,) = [found.stages[address] for address in found.comparisons]
    assert comparison.inputs["groups"] == {
        "dense": ["dense 0", "dense 1"],
        "layer snip 1": ["layer snip 1 0", "layer snip 1 1"],
        "layer snip 2": ["layer snip 2 0", "layer snip 2 1"],
    }
    by_title = {run.name: run.stage for run in found.runs}
    assert comparison.needs["dense 1"] == by_title["dense seed 1"]
    assert comparison.needs["layer snip 2 0"] == by_title["layer snip 2 seed 0"]
    assert comparison.hints["title"] == ""
    assert comparison.inputs["tolerance"] == 1.0  # a default that changes is another comparison
    assert whole_plan(dense=False).comparisons == []
    epochs = whole_plan(grid={"criterion": ["snip"], "blocks": [1], "train.epochs": [2, 3]})
    assert len(epochs.comparisons) == 2  # each with the dense network that was trained alike
    hints = [epochs.stages[address].hints for address in epochs.comparisons]
    assert [each["title"] for each in hints] == ["train.epochs 2", "train.epochs 3"]
    assert [run.name for run in epochs.runs] == [
        *("dense seed 0", "layer snip 1 seed 0", "dense seed 0 #2", "layer snip 1 seed 0 #2"),
    ]
    options = whole_plan(include=[{"criterion": "snip", "blocks": 1, "criterion_options": {"reduction": "mean"}}])
    (comparison,) = [options.stages[address] for address in options.comparisons]
    assert list(comparison.inputs["groups"]) == ["dense", "layer snip 1", "layer snip 2", "layer snip 1 #2"]


def test_one_more_criterion_is_new_and_all_else_is_as_it_was() -> None:
    before = plan().stages.keys()
    after = plan(grid={"criterion": ["random", "snip"], "blocks": [1, 2], "seed": [0]}).stages.keys()
    assert before < after
    assert kinds(after - before) == ["evaluate", "evaluate", "prune", "prune", "score", "train", "train"]


def test_what_is_spelled_out_and_what_is_left_to_the_default_is_the_same() -> None:
    spelled = plan(
        train={"epochs": 20, "recipe": "quick", "batch_size": 128},
        data={"train_limit": 100, "seed": 0, "name": "digits"},
        criterion_options={"reduction": "sum"},
        evaluate={
            **SMALL["evaluate"],
            "epsilons": [8 / 255],
            "options": {"steps": registry.attack_options("pgd")["steps"]},
        },
    )
    assert spelled.stages.keys() == plan().stages.keys()


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"seed": 1, "grid": {"criterion": ["snip"], "blocks": [1, 2]}}, []),
        ({"threads": 2}, []),
        ({"model_options": {"width": 6}}, []),
        ({"data": {"train_limit": 120}}, []),
        ({"train": {"epochs": 3}}, ["prune", "prune", "score"]),
        ({"criterion_options": {"reduction": "mean"}}, ["dense", "evaluate"]),
        ({"evaluate": {}}, ["dense", "prune", "prune", "score", "train", "train"]),
        ({"eligibility": "strict"}, ["dense", "evaluate", "score"]),
        ({"device": "cpu", "measure_energy": False, "country": "FRA"}, None),
        ({"data": {"train_limit": 100, "workers": 1}}, None),
        ({"evaluate": {**SMALL["evaluate"], "batch_size": 7}}, None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_changes_with_a_setting(changes: dict[str, Any], same: list[str] | None) -> None:
    before, after = plan().stages.keys(), plan(**changes).stages.keys()
    assert kinds(before & after) == (kinds(before) if same is None else same)


def test_changed_default_of_a_recipe_is_another_training(monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan().stages.keys()
    monkeypatch.setitem(recipes.RECIPES, "quick", recipes.RECIPES["quick"] | {"momentum": 0.8})
    assert kinds(before & plan().stages.keys()) == ["prune", "prune", "score"]


def test_changed_default_of_an_attack_is_another_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan().stages.keys()
    real = registry.attack_options
    monkeypatch.setattr(registry, "attack_options", lambda name: {**real(name), "steps": 7})
    assert kinds(before & plan().stages.keys()) == ["dense", "prune", "prune", "score", "train", "train"]


def test_other_images_under_the_same_name_are_another_evaluation(tmp_path: Path) -> None:
    def shifted(value: int) -> Plan:
        images, labels = np.full((4, 8, 8), value, np.uint8), np.arange(4)
        np.savez(tmp_path / "set.npz", images=images, labels=labels)
        return plan(evaluate={"shift": {"mine": f"npz:{tmp_path / 'set.npz'}"}})

    first, second = shifted(3), shifted(4)
    assert str(tmp_path / "set.npz") in first.watched
    assert kinds(first.stages.keys() & second.stages.keys()) == kinds(
        address for address in first.stages if not address.startswith("evaluate")
    )


def test_rewinding_asks_the_dense_network_for_what_it_was() -> None:
    found = plan(at_init=False, rewind="25%", train={"epochs": 8})
    (dense,) = [stage for stage in found.stages.values() if stage.kind == "dense"]
    assert dense.hints["keep"] == [2]
    assert kinds(found.stages).count("weights") == 1
    plain = plan(at_init=False, train={"epochs": 8})
    assert {address for address in found.stages if address.startswith(("dense", "score", "prune"))} == {
        address for address in plain.stages if address.startswith(("dense", "score", "prune"))
    }


def test_filter_tickets_are_matched_to_the_layer_ticket_of_the_same_draw() -> None:
    layer, both = plan(), plan(include=[{"method": "filter", "criterion": "snip", "blocks": 1}])
    assert layer.stages.keys() < both.stages.keys()
    (cut,) = [stage for stage in both.stages.values() if stage.inputs.get("method") == "filter"]
    assert both.stages[cut.needs["match"]].inputs["method"] == "layer"


def test_everything_that_can_be_evaluated_can_be_said() -> None:
    taken = {*Evaluation.model_fields, *Attacks.model_fields} - {"checks", "eot", "names"}
    assert taken - set(EvaluateSettings.model_fields) == {"union", "transfer_from", "save_adversarial"}
    assert set(TrainSettings.model_fields) - {"recipe"} == set(recipes.Recipe.model_fields) - {"name"}
    ours = set(inspect.signature(load_data).parameters)
    assert set(DataSettings.model_fields) == ours


def test_settings_of_a_run_can_be_asked_for() -> None:
    settings = plan().runs[1].settings
    wanted = {"method": "layer", "criterion": "snip", "blocks": 1, "seed": 0, "epochs": 20, "model": "resnet20"}
    assert {name: settings[name] for name in wanted} == wanted
    json.dumps(settings)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"grid": {"criterion": ["snap"], "blocks": [1]}}, ["layer snap 1 seed 0", "'snip'"]),
        ({"grid": {"criterion": ["snip"], "blocks": [9]}}, ["layer snip 9 seed 0", "9"]),
        ({"model": "resnet21"}, ["dense seed 0", "resnet2"]),
        ({"train": {"recipe": "quik"}}, ["'quick'"]),
        ({"train": {"learning_rate": -1}}, ["learning_rate"]),
        ({"data": {"name": "didgits"}}, ["'digits'"]),
        ({"evaluate": {"attacks": ["pdg"]}}, ["'pgd'"]),
        ({"evaluate": {"attacks": ["pgd"], "options": {"step": 3}}}, ["'steps'"]),
        ({"evaluate": {"attacks": ["pgd"], "attack_settings": {"check": "full"}}}, ["'checks'"]),
        ({"evaluate": {"attacks": ["pgd"], "attack_settings": {"state": "x"}}}, ["a sweep has folders of its own"]),
        ({"evaluate": {"corruptions": ["fogg"]}}, ["'fog'"]),
        ({"evaluate": {"ood": ["noise"], "detectors": ["enrgy"]}}, ["'energy'"]),
        ({"evaluate": {"shift": {"a": "npz:/nowhere.npz"}}}, ["/nowhere.npz"]),
        ({"evaluate": {"corruption_dir": "/nowhere"}}, ["/nowhere"]),
        # What was left of settings whose attacks, corruptions or foreign sets are gone.
        ({"evaluate": {"options": {"steps": 3}}}, ["no attack is named", "'steps'"]),
        ({"evaluate": {"attack_settings": {"check": "full"}}}, ["'checks'"]),
        ({"evaluate": {"epsilons": ["8/"]}}, ["8/"]),
        ({"evaluate": {"corruption_options": {"folder": "x"}}}, ["no corruption is named"]),
        ({"evaluate": {"detectors": ["msp"]}}, ["detectors without an out-of-distribution set"]),
        ({"evaluate": {"ood_options": {"resamples": 0}}}, ["resamples without an out-of-distribution set"]),
        # And what is misspelt, or cannot be.
        ({"evaluate": {"corruptions": ["frost"], "corruption_options": {"foldr": "x"}}}, ["'folder'"]),
        ({"evaluate": {"corruptions": ["frost"], "corruption_options": {"folder": "/nowhere"}}}, ["/nowhere"]),
        ({"evaluate": {"ood": ["noise"], "ood_options": {"resample": 0}}}, ["'resamples'"]),
        ({"evaluate": {"ood": ["noise"], "ood_options": {"seed": 0}}}, ["no setting 'seed'"]),
        ({"evaluate": {"ood": ["noise"], "ood_options": {"attack_steps": 0}}}, ["attack_steps"]),
        ({"evaluate": {"ood": ["noise"], "ood_options": {"tune_on": "noise"}}}, ["cannot both"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_is_found_out_before_anything_is_computed(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SweepError) as caught:
        plan(**changes)
    for word in words:
        assert word in str(caught.value)
