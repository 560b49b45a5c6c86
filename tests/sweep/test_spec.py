"""What a sweep's file may say, and the runs that it means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import Run, check_failure

from robustprune.errors import SweepError
from robustprune.sweep import read_sweep
from robustprune.sweep.expand import expand
from robustprune.sweep.reading import merge, read_document
from robustprune.sweep.spec import SweepFile


def titles(document: dict[str, Any]) -> list[str]:
    return [run.title for run in expand(document, "here")]


def test_grid_is_every_combination_beside_one_dense_network_for_each_seed() -> None:
    document = {"grid": {"criterion": ["grasp", "snip"], "blocks": [1, 3], "seed": [0, 1]}}
    assert sorted(titles(document)) == sorted(
        ["dense seed 0", "dense seed 1"]
        + [
            f"layer {criterion} {blocks} seed {seed}"
            for criterion in ("grasp", "snip")
            for blocks in (1, 3)
            for seed in (0, 1)
        ]
    )


def test_include_adds_runs_with_a_grid_of_their_own_and_exclude_takes_some_of_all() -> None:
    document = {
        "dense": False,
        "grid": {"criterion": ["grasp", "snip"], "blocks": [1, 3]},
        "include": [
            {"method": "filter", "criterion": "snip", "grid": {"blocks": [1, 2]}},
            {"method": "weight", "criterion": "magnitude", "sparsity": 0.9},
            {"method": "filter", "criterion": "snip", "blocks": 3},
        ],
        "exclude": [{"criterion": "snip", "blocks": 3}, {"train.recipe": "paper"}],
    }
    assert titles(document) == [
        *("layer grasp 1 seed 0", "layer grasp 3 seed 0", "layer snip 1 seed 0"),
        *("filter snip 1 seed 0", "filter snip 2 seed 0", "weight magnitude 0.9 seed 0"),
    ]


def test_dense_network_that_is_asked_for_is_the_one_beside_tickets() -> None:
    tickets = {"grid": {"criterion": ["grasp"], "blocks": [1]}, "eligibility": "strict", "match_by": "macs"}
    asked = {**tickets, "include": [{"method": "dense", "criterion_options": {"batches": 2}, "rewind": "random"}]}
    assert titles(asked) == titles(tickets) == ["dense seed 0", "layer grasp 1 seed 0"]
    assert expand(asked, "here") == expand(tickets, "here")
    (alone,) = expand({"dense": False, "method": "dense", "eligibility": "strict"}, "here")
    assert alone == alone.as_dense()


def test_exclude_knows_defaults() -> None:
    document = {"grid": {"criterion": ["grasp"], "blocks": [1, 2]}, "exclude": [{"method": "layer", "blocks": 2}]}
    assert titles(document) == ["dense seed 0", "layer grasp 1 seed 0"]


def test_paths_in_a_grid_reach_into_groups_of_settings() -> None:
    document = {"criterion": "grasp", "blocks": 1, "dense": False, "grid": {"train.epochs": [3, 5]}}
    assert [run.train.epochs for run in expand(document, "here")] == [3, 5]


def test_settings_and_overlays_take_the_place_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("train: {recipe: paper, epochs: 7}\ngrid: {seed: [0, 1, 2]}\n")
    (tmp_path / "b.yaml").write_text("train: {epochs: 3}\ngrid: {seed: [5]}\n")
    found = read_document(tmp_path / "a.yaml", [tmp_path / "b.yaml"], ["train.batch_size=64", "evaluate.attacks=[pgd]"])
    assert found == {
        "train": {"recipe": "paper", "epochs": 3, "batch_size": 64},
        "grid": {"seed": [5]},
        "evaluate": {"attacks": ["pgd"]},
    }


def test_merging_leaves_both_as_they_were() -> None:
    under, over = {"a": {"b": 1}}, {"a": {"c": [2]}}
    assert merge(under, over) == {"a": {"b": 1, "c": [2]}}
    assert (under, over) == ({"a": {"b": 1}}, {"a": {"c": [2]}})


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"modell": "resnet20"}, ["no setting 'modell'", "Did you mean 'model'?"]),
        ({"train": {"epoch": 3}}, ["no setting 'epoch' in train", "'epochs'"]),
        ({"evaluate": {"atacks": []}}, ["no setting 'atacks' in evaluate", "'attacks'"]),
        ({"grid": {"blockz": [1]}}, ["no setting 'blockz'", "'blocks'"]),
        ({"grid": {"train.epoch": [1]}}, ["no setting 'epoch' in train"]),
        ({"grid": {"seed": []}}, ["no value for seed"]),
        ({"criterion": "grasp", "blocks": 1, "exclude": [{"criterio": "snip"}]}, ["no setting 'criterio'"]),
        ({"criterion": "grasp", "blocks": 0}, ["blocks", "not 0"]),
        ({"criterion": "grasp"}, ["'layer' needs blocks"]),
        ({"method": "weight", "criterion": "snip"}, ["'weight' needs sparsity"]),
        ({"criterion": "grasp", "blocks": 1, "sparsity": 0.5}, ["no use for sparsity"]),
        ({"method": "laier", "criterion": "grasp", "blocks": 1}, ["method", "'laier'"]),
        ({"criterion": "grasp", "blocks": 1, "rewind": 5}, ["at_init: false"]),
        ({"criterion": "grasp", "blocks": 1, "train": 5}, ["train", "not 5"]),
        ({"grid": {"criterion": ["a"], "blocks": [1]}, "exclude": [{"blocks": 1}]}, ["nothing is left"]),
        ({"include": [{"criterion": "grasp", "grid": 3}]}, ["include 1"]),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_was_meant(document: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SweepError) as caught:
        expand(document, "here")
    assert "here" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_whole_document_in_the_place_of_a_value_is_not_shown_in_full() -> None:
    with pytest.raises(SweepError) as caught:
        expand({"criterion": "grasp", "blocks": {str(i): i for i in range(1000)}}, "here")
    assert "'3': 3" in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("content", ["- a list\n", "a: [1\n", "3\n", "1: 2\n", ""])
def test_what_is_no_mapping_is_refused(tmp_path: Path, run: Run, content: str) -> None:
    (tmp_path / "s.yaml").write_text(content)
    check_failure(run("sweep", "s.yaml", "--out", "out"), 1, "s.yaml")
    assert not (tmp_path / "out").exists()


def test_command_says_what_it_was_not_given(tmp_path: Path, run: Run) -> None:
    check_failure(run("sweep", "--out", "out"), 2, "name a sweep's file")
    check_failure(run("sweep", "missing.yaml", "--out", "out"), 1, "missing.yaml", "No such file")
    (tmp_path / "s.yaml").write_text("criterion: grasp\nblocks: 1\n")
    check_failure(run("sweep", "s.yaml", "--out", "out", "--set", "epochs"), 1, "a.b=value")
    check_failure(run("sweep", "s.yaml", "--out", "out", "--set", "blocks.x=1"), 1, "no group of settings")


def test_schema_is_one_that_editors_can_use(run: Run) -> None:
    schema = run("sweep", "--schema").json
    assert schema["additionalProperties"] is False
    assert schema["properties"].keys() == SweepFile.model_fields.keys()
    assert schema["$defs"]["TrainSettings"]["properties"].keys() >= {"recipe", "epochs"}
    json.dumps(schema)


EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_example_is_what_the_documentation_says_of_it() -> None:
    name, runs = read_sweep(EXAMPLES / "sweep-digits.yaml")
    assert name == "digits"
    assert len(runs) == 2 * 3 * 2 + 2
    assert yaml.safe_load((EXAMPLES / "sweep-digits.yaml").read_text())["evaluate"]["corruptions"] == ["all"]
