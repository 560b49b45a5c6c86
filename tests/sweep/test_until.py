"""Sweeps that go on with further seeds until their verdicts are decided."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from comparison_simulation import World, sequential_shares
from support import Run, check_failure
from synthetic_records import make_record

from robustprune.comparison.interim_look import InterimLook, find_look
from robustprune.errors import SweepError
from robustprune.sweep import Store, read_sweep
from robustprune.sweep.graph import SweepPlan
from robustprune.sweep.resolve import plan_runs
from robustprune.sweep.settings import expand, read_until
from robustprune.sweep.standing import current_look, describe_look, stands_at
from robustprune.sweep.status import status
from robustprune.sweep.until import Until, compare_at

DOCUMENT: dict[str, Any] = {
    "model": "resnet20",
    "model_options": {"width": 4},
    "data": {"train_limit": 100},
    "pruning": {"criterion": "snip", "blocks": 1},
    "until": {"verdict": "decided", "most_seeds": 7},
}


def plan_of(document: dict[str, Any]) -> SweepPlan:
    return SweepPlan.from_json(plan_runs(expand(document, "here"), until=read_until(document))[0].to_json())


@pytest.fixture(scope="module")
def plan() -> SweepPlan:
    return plan_of(DOCUMENT)


def pretend(plan: SweepPlan, folder: Path, look: int, *, is_last: bool) -> Store:
    """Leave behind what the comparisons of a look leave."""
    store = Store(folder)
    for address in plan.looks[look]["comparisons"]:
        place = store.stage(address)
        place.mkdir(parents=True)
        (place / "comparison.json").write_text(json.dumps({"look": {"is_last": is_last}}))
        (place / "stage.json").write_text("{}")
    return store


def test_runs_are_those_of_all_seeds_that_there_may_be() -> None:
    runs = expand({**DOCUMENT, "seed": 4}, "here")
    assert [run.seed for run in runs if run.is_dense] == list(range(4, 11))
    assert len(runs) == 14


def test_a_bare_decided_is_the_whole_of_it(tmp_path: Path) -> None:
    assert Until("decided") == Until()
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({**DOCUMENT, "until": "decided"}))
    sweep = read_sweep(tmp_path / "sweep.yaml", settings=["until.most_seeds=5"])
    assert {run.seed for run in sweep.runs} == set(range(5))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grid": {"seed": [0, 1]}}, "name none in a grid"),
        ({"until": "equivalent"}, "decided"),
        ({"until": {"most_seeds": 2}}, "greater than or equal to 3"),
        ({"until": {"metric": "acuracy"}}, "accuracy"),
        ({"until": {"metric": "macs"}}, "no verdict"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SweepError, match=said):
        expand({**DOCUMENT, **changes}, "here")


def test_without_a_ticket_there_is_nothing_to_decide() -> None:
    with pytest.raises(SweepError, match="takes tickets"):
        plan_of({**DOCUMENT, "pruning": "dense"})


def test_each_look_has_the_runs_of_its_seeds_and_a_comparison_of_its_own(plan: SweepPlan) -> None:
    looks = [plan.at_look(place) for place in range(len(plan.looks))]
    assert [len(look.runs) for look in looks] == [6, 10, 14]
    assert [look.looks[0]["seeds"] for look in looks] == [3, 5, 7]
    for look in looks:
        (address,) = look.comparisons
        inputs = look.stages[address].inputs
        assert inputs["look"] == {
            "number": looks.index(look) + 1,
            "seeds": [3, 5, 7],
            "metric": "accuracy",
            "confidence": 0.95,
        }
        assert set(look.stages[address].needs.values()) == {run.stage for run in look.runs}
        assert all(need in look.stages for stage in look.stages.values() for need in stage.needs.values())


def test_what_a_look_is_judged_by_is_part_of_its_address(plan: SweepPlan) -> None:
    stage = plan.stages[plan.comparisons[0]]
    asked = [
        Until(most_seeds=7),
        Until(most_seeds=7, tolerance=0.5),
        Until(most_seeds=10),
        Until(most_seeds=7, metric="ece"),
    ]
    judged = [replace(stage, inputs={**stage.inputs, **each.settings(each.looks[0])}).address for each in asked]
    assert judged[0] == stage.address
    assert len(set(judged)) == 4


def test_sweep_goes_on_until_it_is_decided(plan: SweepPlan, tmp_path: Path) -> None:
    assert current_look(plan, Store(tmp_path)) == 0
    store = pretend(plan, tmp_path, 0, is_last=False)
    assert current_look(plan, store) == 1
    store.keep_plan("mine", plan)
    (found,) = status(store)
    assert found["look"] == {"number": 2, "of": 3, "seeds": 5, "most_seeds": 7, "is_over": False}
    assert found["runs"] == 10
    pretend(plan, tmp_path, 1, is_last=True)
    assert current_look(plan, store) == 1
    found_look = describe_look(stands_at(plan, store), store)
    assert found_look is not None
    assert found_look["is_over"]


def test_without_until_there_are_no_looks(tmp_path: Path) -> None:
    plain = SweepPlan()
    assert stands_at(plain, Store(tmp_path)) is plain
    assert describe_look(plain, Store(tmp_path)) is None


def test_look_is_judged_by_its_own_confidence_and_says_so(tmp_path: Path) -> None:
    files = {kind: [str(tmp_path / f"{kind}{seed}.json") for seed in range(3)] for kind in ("dense", "layer")}
    for kind, names in files.items():
        for seed, name in enumerate(names):
            make_record(kind=kind, seed=seed).save(name)
    look = InterimLook(1, (3, 5))
    found = compare_at(look, files["dense"], {"layer": files["layer"]}, tolerance=50.0)
    assert found.confidence == look.own_confidence > 0.95
    assert found.look == replace(look, is_last=True)  # within 50 points it is certainly equivalent
    assert "Interim look 1 of 2, after 3 of at most 5 seeds; no more are trained" in found.summary[-1]
    undecided = compare_at(look, files["dense"], {"layer": files["layer"]}, tolerance=0.0)
    assert undecided.look == look
    assert compare_at(InterimLook(2, (3, 5)), files["dense"], {"layer": files["layer"]}, tolerance=0.0).look.is_last
    with pytest.raises(SweepError, match="no record has auroc"):
        compare_at(replace(look, metric="auroc"), files["dense"], {"layer": files["layer"]})
    # A report finds the look beside the records.
    (tmp_path / "comparison.json").write_text(json.dumps(found.to_dict()))
    assert find_look([tmp_path]) == found.look
    assert find_look([files["dense"][0]]) is None


def test_no_worse_does_not_end_it() -> None:
    look = InterimLook(1, (3, 5))
    assert not look.decides(["no worse"])
    assert not look.decides(["equivalent", "undecided"])
    assert not look.decides([None])
    assert look.decides(["equivalent", "worse"])
    assert InterimLook(2, (3, 5)).decides(["undecided"])


@pytest.mark.slow
@pytest.mark.parametrize("difference", [-0.01, 0.0])
def test_wrong_verdicts_are_as_rare_as_those_of_one_look(difference: float) -> None:
    found = sequential_shares(World(10, 500, difference, 0.05, 0.006), 600)
    wrong = ("better",) if difference == 0 else ("wins", "worse")
    assert all(found[name] <= 5 + 2.7 for name in wrong)
    assert found["seeds"] < 10


@pytest.mark.slow
def test_command(tmp_path: Path, run: Run) -> None:
    document = {**DOCUMENT, "recipe": {"epochs": 1}, "country": None, "evaluate": {"limit": 60}, "name": "mine"}
    document["until"] = {"most_seeds": 5, "tolerance": 0.01}
    Path("sweep.yaml").write_text(yaml.safe_dump(document))
    found = run("sweep", "sweep.yaml", "--out", "out", "--workers", "1")
    assert found.code == 0, found.err
    assert "of at most 5 seeds; no more are trained" in " ".join(found.out.split())
    again = run("sweep", "sweep.yaml", "--out", "out", "--json").json
    assert again["done_now"] == 0
    assert again["look"]["is_over"]
    assert "ended with look" in run("status", "out").err
    assert run("report", "out", "--out", "page.html").code == 0
    assert "of at most 5 seeds" in Path("page.html").read_text()
    check_failure(run("sweep", "sweep.yaml", "--out", "new", "--set", "until=maybe"), 1, "decided")
