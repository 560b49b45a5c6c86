"""What a sweep's file may say, and the runs that it means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support import Run, check_failure

from robustprune.errors import SweepError
from robustprune.sweep import read_sweep
from robustprune.sweep.document import SHORT, merge, read_document
from robustprune.sweep.settings import SweepSettings, expand

TICKET: dict[str, Any] = {"criterion": "grasp", "blocks": 1}
PLAIN = "pruning: {criterion: grasp, blocks: 1}\n"


def titles(document: dict[str, Any]) -> list[str]:
    return [run.title for run in expand(document, "here")]


def test_grid_is_every_combination_beside_one_dense_network_for_each_seed() -> None:
    document = {"grid": {"pruning.criterion": ["grasp", "snip"], "pruning.blocks": [1, 3], "seed": [0, 1]}}
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
        "grid": {"pruning.criterion": ["grasp", "snip"], "pruning.blocks": [1, 3]},
        "include": [
            {"pruning": {"method": "filter", "criterion": "snip"}, "grid": {"pruning.blocks": [1, 2]}},
            {"pruning": {"method": "weight", "criterion": "magnitude", "sparsity": 0.9}},
            {"pruning": {"method": "filter", "criterion": "snip", "blocks": 3}},
        ],
        "exclude": [{"pruning.criterion": "snip", "pruning.blocks": 3}, {"recipe.name": "paper"}],
    }
    assert titles(document) == [
        *("layer grasp 1 seed 0", "layer grasp 3 seed 0", "layer snip 1 seed 0"),
        *("filter snip 1 seed 0", "filter snip 2 seed 0", "weight magnitude 0.9 seed 0"),
    ]


def test_dense_network_that_is_asked_for_is_the_one_beside_tickets() -> None:
    tickets = {"pruning": {"criterion": "grasp", "blocks": 1, "eligibility": "strict", "match_by": "macs"}}
    dense = {"method": "dense", "criterion": None, "blocks": None, "options": {"batches": 2}, "rewind": "random"}
    asked = {**tickets, "grid": {"seed": [0]}, "include": [{"pruning": dense}]}
    assert titles(asked) == titles(tickets) == ["dense seed 0", "layer grasp 1 seed 0"]
    assert expand(asked, "here") == expand(tickets, "here")
    (alone,) = expand({"dense": False, "pruning": {"method": "dense", "eligibility": "strict"}}, "here")
    assert alone == alone.as_dense()


def test_exclude_knows_defaults() -> None:
    grid = {"pruning.criterion": ["grasp"], "pruning.blocks": [1, 2]}
    document = {"grid": grid, "exclude": [{"pruning": {"method": "layer", "blocks": 2}}]}
    assert titles(document) == ["dense seed 0", "layer grasp 1 seed 0"]


def test_paths_in_a_grid_reach_into_groups_of_settings() -> None:
    document = {"pruning": TICKET, "dense": False, "grid": {"recipe.epochs": [3, 5]}}
    assert [run.recipe.epochs for run in expand(document, "here")] == [3, 5]


def test_settings_and_overlays_take_the_place_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("recipe: {name: paper, epochs: 7}\ngrid: {seed: [0, 1, 2]}\n")
    (tmp_path / "b.yaml").write_text("recipe: {epochs: 3}\ngrid: {seed: [5]}\n")
    given = ["recipe.batch_size=64", "evaluate.attacks=[pgd]", "grid.pruning.blocks=[1]"]
    assert read_document(tmp_path / "a.yaml", [tmp_path / "b.yaml"], given) == {
        "recipe": {"name": "paper", "epochs": 3, "batch_size": 64},
        "grid": {"seed": [5], "pruning.blocks": [1]},
        "evaluate": {"attacks": ["pgd"]},
    }


def test_short_forms_are_spelled_out_where_more_is_said_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("recipe: paper\nevaluate: {attacks: [fgsm, pgd]}\npruning: dense\n")
    (tmp_path / "b.yaml").write_text("recipe: {epochs: 3}\npruning: weight\n")
    assert read_document(tmp_path / "a.yaml", [tmp_path / "b.yaml"], ["evaluate.attacks.restarts=2"]) == {
        "recipe": {"name": "paper", "epochs": 3},
        "evaluate": {"attacks": {"names": ["fgsm", "pgd"], "restarts": 2}},
        "pruning": "weight",
    }
    run = SweepSettings(until="decided")
    groups = {name: getattr(run, name, None) or getattr(run.evaluate, name) for name in SHORT}
    assert {name: group.FIRST for name, group in groups.items()} == SHORT


def test_merging_leaves_both_as_they_were() -> None:
    under, over = {"a": {"b": 1}}, {"a": {"c": [2]}}
    assert merge(under, over) == {"a": {"b": 1, "c": [2]}}
    assert (under, over) == ({"a": {"b": 1}}, {"a": {"c": [2]}})


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"modell": "resnet20"}, ["no setting 'modell'", "Did you mean 'model'?"]),
        ({"recipe": {"epoch": 3}}, ["recipe: there is no setting 'epoch'", "'epochs'"]),
        ({"evaluate": {"atacks": []}}, ["evaluate: there is no setting 'atacks'", "'attacks'"]),
        ({"grid": {"sed": [1]}}, ["no setting 'sed'", "'seed'"]),
        ({"grid": {"recipe.epoch": [1]}}, ["recipe: there is no setting 'epoch'"]),
        ({"grid": {"seed": []}}, ["no value for seed"]),
        ({"pruning": TICKET, "exclude": [{"modell": "resnet20"}]}, ["exclude", "no setting 'modell'"]),
        ({"pruning": TICKET, "exclude": [{"pruning.criterio": "snip"}]}, ["exclude", "'criterio'", "'criterion'"]),
        ({"pruning": {"criterion": "grasp", "blocks": 0}}, ["pruning.blocks", "not 0"]),
        ({"pruning": {"criterion": "grasp"}}, ["'layer' needs blocks"]),
        ({"pruning": {"method": "weight", "criterion": "snip"}}, ["'weight' needs sparsity"]),
        ({"pruning": {**TICKET, "sparsity": 0.5}}, ["no use for sparsity"]),
        ({"pruning": {**TICKET, "method": "laier"}}, ["pruning.method", "'laier'"]),
        ({"pruning": {**TICKET, "rewind": 5}}, ["at_init: false"]),
        ({"pruning": TICKET, "recipe": 5}, ["recipe", "no recipe '5'"]),
        ({"pruning": TICKET, "data": [5]}, ["data.name", "not [5]"]),
        (
            {"grid": {"pruning.criterion": ["a"], "pruning.blocks": [1]}, "exclude": [{"pruning.blocks": 1}]},
            ["nothing"],
        ),
        ({"include": [{"pruning": TICKET, "grid": 3}]}, ["include 1"]),
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
        expand({"seed": {str(i): i for i in range(1000)}}, "here")
    assert "'3': 3" in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "model: resnet20\nevaluate: {attacks: [fgsm]}\nevaluate: {ood: [noise]}\n",
            "'evaluate' is given twice, in lines 2",
        ),
        ("recipe:\n  epochs: 1\n  name: paper\n  epochs: 2\n", "'epochs' is given twice, in lines 2 and 4"),
        ("include:\n- {model: a, seed: 1, seed: 2}\n", "'seed' is given twice, in line 2"),
        ("grid: {seed: [0], 'seed': [1]}\n", "'seed' is given twice"),
        ('{"seed": 1, "seed": 1}', "'seed' is given twice"),
        ("recipe: &t {epochs: 1, epochs: 2}\ninclude: [{recipe: {<<: *t}}]\n", "'epochs' is given twice"),
        ("recipe: {<<: {epochs: 1}, <<: {epochs: 2}}\n", "'<<' is given twice"),
        ("evaluate: {attacks: {steps: 1, ? steps : 2}}\n", "'steps' is given twice"),
    ],
)
def test_a_key_given_twice_is_refused_at_any_depth(tmp_path: Path, run: Run, content: str, words: str) -> None:
    (tmp_path / "s.yaml").write_text(content)
    check_failure(run("sweep", "s.yaml", "--out", "out"), 1, "s.yaml", words)
    (tmp_path / "plain.yaml").write_text(PLAIN)
    check_failure(run("sweep", "plain.yaml", "--override", "s.yaml", "--out", "out"), 1, "s.yaml", words)
    assert not (tmp_path / "out").exists()


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.integers() | st.text("ab", min_size=1),
        lambda inner: st.dictionaries(st.text("ab", min_size=1), inner, max_size=3) | st.lists(inner, max_size=3),
    )
)
def test_what_has_no_key_twice_is_read_as_yaml_is(tmp_path: Path, value: Any) -> None:
    document = {"a": value, "b": [value, {"c": value}]}  # the dumper writes anchors for what recurs
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(document))
    assert read_document(tmp_path / "s.yaml") == document


def test_what_is_merged_may_be_overridden(tmp_path: Path) -> None:
    text = "base: &b {epochs: 1, name: quick}\nrecipe: {<<: *b, epochs: 5}\nagain: {epochs: 6, <<: [*b, {seed: 1}]}\n"
    (tmp_path / "s.yaml").write_text(text)
    found = read_document(tmp_path / "s.yaml")
    assert found["recipe"] == {"epochs": 5, "name": "quick"}
    assert found["again"] == {"epochs": 6, "name": "quick", "seed": 1}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["seed=1", "seed=2"], "--set gives seed twice"),
        (["recipe.epochs=1", "recipe={epochs: 2}"], "recipe.epochs and recipe, of which one holds the other"),
        (["recipe={epochs: 2}", "seed=1", "recipe.epochs=1"], "recipe and recipe.epochs"),
        (["recipe={epochs: 2, epochs: 3}"], "'epochs' is given twice"),
        (["recipe.epochs="], "gives no value"),
    ],
)
def test_a_setting_given_twice_or_to_nothing_is_refused(tmp_path: Path, settings: list[str], words: str) -> None:
    (tmp_path / "s.yaml").write_text(PLAIN)
    with pytest.raises(SweepError, match=words):
        read_document(tmp_path / "s.yaml", (), settings)
    read_document(tmp_path / "s.yaml", (), ["recipe.epochs=1", "recipe.name=paper", "recipes=1"])


@pytest.mark.parametrize(
    "document",
    [
        {"grid": {"recipe": [{"epochs": 1}], "recipe.epochs": [2, 3]}},
        {"exclude": [{"recipe": {"epochs": 1}, "recipe.epochs": 2}]},
    ],
)
def test_a_grid_sets_nothing_twice(document: dict[str, Any]) -> None:
    with pytest.raises(SweepError, match=r"gives recipe and recipe\.epochs"):
        expand({"pruning": TICKET, **document}, "here")


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ({"model": ""}, "model"),
        ({"pruning": {**TICKET, "criterion": " "}}, "pruning.criterion"),
        ({"data": {"name": ""}}, "data.name"),
        ({"data": {"root": "  "}}, "data.root"),
        ({"model_options": {"weights_file": ""}}, "model_options"),
        ({"evaluate": {"attacks": ["fgsm", ""]}}, "evaluate.attacks.names"),
        ({"evaluate": {"corruptions": {"published": ""}}}, "evaluate.corruptions.published"),
        ({"evaluate": {"ood": {"sets": [""]}}}, "evaluate.ood.sets"),
        ({"grid": {"data.name": ["digits", ""]}}, "grid"),
    ],
)
def test_empty_names_are_refused(document: dict[str, Any], where: str) -> None:
    with pytest.raises(SweepError, match=f"here: {where}: it is empty"):
        expand({"pruning": TICKET, **document}, "here")
    expand({"pruning": TICKET, "description": ""}, "here")


def test_names_that_yaml_takes_for_numbers_are_text() -> None:
    run = expand({"pruning": TICKET, "data": {"root": 2024}}, "here")[0]
    assert run.data.root == "2024"


@pytest.mark.parametrize("content", ["- a list\n", "a: [1\n", "3\n", "1: 2\n", ""])
def test_what_is_no_mapping_is_refused(tmp_path: Path, run: Run, content: str) -> None:
    (tmp_path / "s.yaml").write_text(content)
    check_failure(run("sweep", "s.yaml", "--out", "out"), 1, "s.yaml")
    assert not (tmp_path / "out").exists()


def test_command_says_what_it_was_not_given(tmp_path: Path, run: Run) -> None:
    check_failure(run("sweep", "--out", "out"), 2, "name a sweep's file")
    check_failure(run("sweep", "missing.yaml", "--out", "out"), 1, "missing.yaml", "No such file")
    (tmp_path / "s.yaml").write_text(PLAIN)
    check_failure(run("sweep", "s.yaml", "--out", "out", "--set", "epochs"), 1, "a.b=value")
    check_failure(run("sweep", "s.yaml", "--out", "out", "--set", "pruning.blocks.x=1"), 1, "no group of settings")


def test_schema_is_one_that_editors_can_use(run: Run) -> None:
    schema = run("sweep", "--schema").json
    assert schema["additionalProperties"] is False
    assert schema["properties"].keys() == SweepSettings.model_fields.keys()
    assert schema["$defs"]["Recipe"]["properties"].keys() >= {"name", "epochs"}
    json.dumps(schema)


EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_example_is_what_the_documentation_says_of_it() -> None:
    found = read_sweep(EXAMPLES / "sweep-digits.yaml")
    assert found.name == "digits"
    assert len(found.runs) == 2 * 3 * 2 + 2
    assert {run.evaluate.corruptions.names for run in found.runs} == {("all",)}


@pytest.mark.parametrize(
    "text", ["threads: true", "seed: yes", "pruning: {blocks: on}", "recipe: {epochs: off}", "model: no"]
)
def test_true_and_false_are_neither_numbers_nor_texts(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(SweepError, match="it takes no true or false"):
        expand(read_document(tmp_path / "s.yaml"), "s.yaml")


@pytest.mark.parametrize(("text", "read"), [("12:30", 750), ("010", 8)])
def test_numbers_that_yaml_reads_as_others_are_refused(tmp_path: Path, text: str, read: int) -> None:
    (tmp_path / "s.yaml").write_text(f"seed: {text}")
    with pytest.raises(SweepError, match=f"{text} in line 1 is {read} in YAML"):
        read_document(tmp_path / "s.yaml")
