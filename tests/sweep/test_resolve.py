"""Addresses follow what decides the outcome, defaults included, and nothing else."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustprune.attacks import registry
from robustprune.comparison.verdict import TOLERANCES
from robustprune.data import load_data
from robustprune.errors import SweepError
from robustprune.sweep import read_sweep
from robustprune.sweep.graph import SweepPlan
from robustprune.sweep.resolve import plan_runs
from robustprune.sweep.settings import DataSettings, expand
from robustprune.training import recipes

SMALL: dict[str, Any] = {
    "model": "resnet20",
    "model_options": {"width": 4},
    "data": {"train_limit": 100},
    "evaluate": {"attacks": "pgd", "corruptions": "fog", "ood": {"sets": "noise", "detectors": ["msp", "knn"]}},
    "grid": {"pruning.criterion": ["snip"], "pruning.blocks": [1, 2], "seed": [0]},
}


EXAMPLE = Path(__file__).parents[2] / "examples" / "sweep-digits.yaml"
ADDRESSES = {
    "dense-ec9431b3b6c9d6c37125", "score-d06949d618e77bae677c", "prune-231c65e2dfc2d27f66ea",
    "train-d8785448673316b92150", "dense-b82888def330c1981e20", "score-86c5bcc369fb626cb446",
    "prune-c21709aa8451666c7660", "train-73d3802ead8489ce7c84", "prune-5f4897987c1f57c5b37f",
    "train-25d6be4ca13525802095", "prune-12c84138254fdf63ed4a", "train-bc5a9717d997365b0ad3",
    "prune-7261905b34d48ac76b74", "train-52716034d0ec0c9ce387", "prune-ae3ddbf9b6ffb3b807ff",
    "train-0b1c8eee34b773c08e23", "score-02b1d51ca720954b1e7a", "prune-a36c039d3754e5803328",
    "train-6d78302557b27009cb44", "score-140ac386a2233b6b81b5", "prune-93da4106d22f616b561a",
    "train-e2d6036d7ce1e0a56afd", "prune-a45018bab88858f97c19", "train-d3fd72a358d9c4529e29",
    "prune-674ce002e8c5afecb61d", "train-058f8d079d4bee359fd6", "prune-878c631266acf92bc3d5",
    "train-49e223c5fe685d3c3bab", "prune-fa945ba057d32f6c4d1a", "train-2b2b5ce668ef2780cedf",
}  # fmt: skip


def plan(**changes: Any) -> SweepPlan:
    """Return a plan less its comparisons, which change with any of their runs."""
    found = whole_plan(**changes)
    found.stages = {address: stage for address, stage in found.stages.items() if stage.kind != "compare"}
    return found


def whole_plan(**changes: Any) -> SweepPlan:
    found, _ = plan_runs(expand({**SMALL, **changes}, "here"))
    return SweepPlan.from_json(found.to_json())


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
    found = whole_plan(grid={**SMALL["grid"], "seed": [0, 1]})
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
    assert comparison.inputs["tolerance"] == TOLERANCES  # a default that changes is another comparison
    assert whole_plan(dense=False).comparisons == []
    epochs = whole_plan(pruning={"criterion": "snip", "blocks": 1}, grid={"recipe.epochs": [2, 3]})
    assert len(epochs.comparisons) == 2  # each with the dense network that was trained alike
    hints = [epochs.stages[address].hints for address in epochs.comparisons]
    assert [each["title"] for each in hints] == ["recipe.epochs 2", "recipe.epochs 3"]
    assert [run.name for run in epochs.runs] == [
        *("dense seed 0", "layer snip 1 seed 0", "dense seed 0 #2", "layer snip 1 seed 0 #2"),
    ]
    options = whole_plan(include=[{"pruning": {"criterion": "snip", "blocks": 1, "reduction": "mean"}}])
    (comparison,) = [options.stages[address] for address in options.comparisons]
    assert list(comparison.inputs["groups"]) == ["dense", "layer snip 1", "layer snip 2", "layer snip 1 #2"]


def test_one_more_criterion_is_new_and_all_else_is_as_it_was() -> None:
    before = plan().stages.keys()
    after = plan(grid={**SMALL["grid"], "pruning.criterion": ["random", "snip"]}).stages.keys()
    assert before < after
    assert kinds(after - before) == ["evaluate", "evaluate", "prune", "prune", "score", "train", "train"]


def test_what_is_spelled_out_and_what_is_left_to_the_default_is_the_same() -> None:
    spelled = plan(
        recipe={"epochs": 20, "name": "quick", "batch_size": 128},
        data={"train_limit": 100, "seed": 0, "name": "digits"},
        pruning={"reduction": "sum"},
        evaluate={
            **SMALL["evaluate"],
            "attacks": {"names": ["pgd"], "epsilons": [8 / 255], "steps": registry.attack_options("pgd")["steps"]},
        },
    )
    assert spelled.stages.keys() == plan().stages.keys()


@pytest.mark.quick_cases(5)
@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"grid": {**SMALL["grid"], "seed": [1]}}, []),
        ({"threads": 2}, []),
        ({"model_options": {"width": 6}}, []),
        ({"data": {"train_limit": 120}}, []),
        ({"recipe": {"epochs": 3}}, ["prune", "prune", "score"]),
        ({"pruning": {"reduction": "mean"}}, ["dense", "evaluate"]),
        ({"evaluate": {}}, ["dense", "prune", "prune", "score", "train", "train"]),
        ({"pruning": {"eligibility": "strict"}}, ["dense", "evaluate", "score"]),
        ({"device": "cpu", "country": "FRA"}, None),
        ({"country": None}, None),
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
    monkeypatch.setitem(recipes.RECIPES, "quick", {**recipes.RECIPES["quick"], "momentum": 0.8})
    assert kinds(before & plan().stages.keys()) == ["prune", "prune", "score"]


def test_changed_default_of_an_attack_is_another_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan().stages.keys()
    real = registry.attack_options
    monkeypatch.setattr(registry, "attack_options", lambda name: {**real(name), "steps": 7})
    assert kinds(before & plan().stages.keys()) == ["dense", "prune", "prune", "score", "train", "train"]


def test_other_images_under_the_same_name_are_another_evaluation(tmp_path: Path) -> None:
    def shifted(value: int) -> SweepPlan:
        images, labels = np.full((4, 8, 8), value, np.uint8), np.arange(4)
        np.savez(tmp_path / "set.npz", images=images, labels=labels)
        return plan(evaluate={"shift": {"mine": f"npz:{tmp_path / 'set.npz'}"}})

    first, second = shifted(3), shifted(4)
    assert str(tmp_path / "set.npz") in first.watched
    assert kinds(first.stages.keys() & second.stages.keys()) == kinds(
        address for address in first.stages if not address.startswith("evaluate")
    )


def test_rewinding_asks_the_dense_network_for_what_it_was() -> None:
    found = plan(pruning={"at_init": False, "rewind": "25%"}, recipe={"epochs": 8})
    (dense,) = [stage for stage in found.stages.values() if stage.kind == "dense"]
    assert dense.hints["keep"] == [2]
    assert kinds(found.stages).count("weights") == 1
    plain = plan(pruning={"at_init": False}, recipe={"epochs": 8})
    assert {address for address in found.stages if address.startswith(("dense", "score", "prune"))} == {
        address for address in plain.stages if address.startswith(("dense", "score", "prune"))
    }


def test_filter_tickets_are_matched_to_the_layer_ticket_of_the_same_draw() -> None:
    layer, both = plan(), plan(include=[{"pruning": {"method": "filter", "criterion": "snip", "blocks": 1}}])
    assert layer.stages.keys() < both.stages.keys()
    (cut,) = [stage for stage in both.stages.values() if stage.inputs.get("method") == "filter"]
    assert both.stages[cut.needs["match"]].inputs["method"] == "layer"


def test_every_image_set_that_can_be_loaded_can_be_said() -> None:
    assert set(DataSettings.model_fields) == set(inspect.signature(load_data).parameters)


def test_addresses_of_the_example_stay_what_they_are() -> None:
    """What was computed is found again, but for evaluations, of which more may come to be measured."""
    found, _ = plan_runs(read_sweep(EXAMPLE).runs)
    assert {address for address in found.stages if not address.startswith(("evaluate", "compare"))} == ADDRESSES


def test_settings_of_a_run_can_be_asked_for() -> None:
    settings = plan().runs[1].settings
    wanted = {"method": "layer", "criterion": "snip", "blocks": 1, "seed": 0, "epochs": 20, "model": "resnet20"}
    assert {name: settings[name] for name in wanted} == wanted
    json.dumps(settings)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"grid": {"pruning.criterion": ["snap"], "pruning.blocks": [1]}}, ["layer snap 1 seed 0", "'snip'"]),
        ({"grid": {"pruning.criterion": ["snip"], "pruning.blocks": [9]}}, ["layer snip 9 seed 0", "9"]),
        ({"pruning": {"reductoin": "mean"}}, ["layer snip 1 seed 0", "'reduction'"]),
        (
            {"pruning": {"method": "filter"}, "grid": {"pruning.criterion": ["kl"], "pruning.blocks": [1]}},
            ["kl does not"],
        ),
        ({"model": "resnet21"}, ["dense seed 0", "resnet2"]),
        ({"recipe": "quik"}, ["'quick'"]),
        ({"recipe": {"learning_rate": -1}}, ["learning_rate"]),
        ({"data": {"name": "didgits"}}, ["'digits'"]),
        ({"evaluate": {"attacks": ["pdg"]}}, ["'pgd'"]),
        ({"evaluate": {"attacks": {"names": "pgd", "step": 3}}}, ["'steps'"]),
        ({"evaluate": {"attacks": {"names": "pgd", "transfer_from": "other"}}}, ["can transfer from 'dense'"]),
        ({"evaluate": {"attacks": {"names": "pgd", "save_adversarial": "x"}}}, ["a sweep has folders of its own"]),
        ({"evaluate": {"corruptions": ["fogg"]}}, ["'fog'"]),
        ({"evaluate": {"ood": {"sets": "noise", "detectors": ["enrgy"]}}}, ["'energy'"]),
        ({"evaluate": {"shift": {"a": "npz:/nowhere.npz"}}}, ["/nowhere.npz"]),
        ({"evaluate": {"corruptions": {"published": "/nowhere"}}}, ["/nowhere"]),
        # What was left of settings whose attacks, corruptions or OOD sets are gone.
        ({"evaluate": {"attacks": {"steps": 3}}}, ["no attack is named", "'steps'"]),
        ({"evaluate": {"attacks": {"epsilons": ["8/"]}}}, ["8/"]),
        ({"evaluate": {"corruptions": {"folder": "x"}}}, ["no corruption is named"]),
        ({"evaluate": {"ood": {"detectors": ["msp"]}}}, ["detectors without an out-of-distribution set"]),
        ({"evaluate": {"ood": {"resamples": 0}}}, ["resamples without an out-of-distribution set"]),
        # And what is misspelt, or cannot be.
        ({"evaluate": {"corruptions": {"names": "frost", "foldr": "x"}}}, ["'folder'"]),
        ({"evaluate": {"corruptions": {"names": "frost", "folder": "/nowhere"}}}, ["/nowhere"]),
        ({"evaluate": {"ood": {"sets": "noise", "resample": 0}}}, ["'resamples'"]),
        ({"evaluate": {"ood": {"sets": "noise", "seed": 0}}}, ["no setting 'seed'"]),
        ({"evaluate": {"ood": {"sets": "noise", "attack_steps": 0}}}, ["attack_steps"]),
        ({"evaluate": {"ood": {"sets": "noise", "tune_on": "noise"}}}, ["cannot both"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_is_found_out_before_anything_is_computed(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SweepError) as caught:
        plan(**changes)
    for word in words:
        assert word in str(caught.value)
