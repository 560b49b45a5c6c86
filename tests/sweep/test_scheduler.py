"""Stages in their order, each once, whatever else happens; what a stage does is made up."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from sweep_stages import COUNTING, EVIL, calls, plan_of

from robustprune.errors import SweepError
from robustprune.sweep import Store, summarize
from robustprune.sweep.engines.local import LocalEngine
from robustprune.sweep.engines.ray import RayEngine
from robustprune.sweep.graph import Stage, SweepPlan
from robustprune.sweep.scheduler import run_plan
from robustprune.sweep.status import State, standing, status
from robustprune.sweep.store import claim, is_held


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    made = LocalEngine(2)
    yield made
    made.close()


def go(plan: SweepPlan, folder: Path, engine: LocalEngine, work: str = COUNTING) -> State:
    folder.mkdir(exist_ok=True)
    return run_plan(plan, Store(folder), engine, lambda _state, _address: None, work=work)


def test_shared_stages_are_done_once_and_before_what_needs_them(tmp_path: Path, engine: LocalEngine) -> None:
    plan = plan_of(("dense", "a", "test"), ("dense", "b", "test"), ("dense", "test"))
    state = go(plan, tmp_path, engine)
    assert state.finished_runs == 3
    assert calls(tmp_path) == ["a", "b", "dense", "test", "test", "test"]
    again = go(plan, tmp_path, engine)
    assert again.finished_runs == 3
    assert len(calls(tmp_path)) == 6
    more = go(plan_of(("dense", "a", "test"), ("dense", "c", "test")), tmp_path, engine)
    assert more.finished_runs == 2
    assert calls(tmp_path) == ["a", "b", "c", "dense", "test", "test", "test", "test"]
    assert not list(tmp_path.glob("work/*"))


def test_what_a_finished_run_needed_may_be_gone(tmp_path: Path, engine: LocalEngine) -> None:
    plan = plan_of(("dense", "test"))
    go(plan, tmp_path, engine)
    (dense,) = [address for address, stage in plan.stages.items() if stage.inputs["name"] == "dense"]
    for path in Store(tmp_path).stage(dense).iterdir():
        path.unlink()
    Store(tmp_path).stage(dense).rmdir()
    go(plan, tmp_path, engine)
    assert calls(tmp_path) == ["dense", "test"]


@pytest.mark.parametrize(
    ("name", "error"), [("raise", "cannot be cut"), ("defect", "ZeroDivisionError"), ("die", "SIGKILL")]
)
def test_failure_is_on_record_and_stops_only_what_depends_on_it(
    tmp_path: Path, engine: LocalEngine, name: str, error: str
) -> None:
    plan = plan_of((name, "test"), ("good", "test"))
    state = go(plan, tmp_path, engine, EVIL)
    assert state.finished_runs == 1
    ((address, said),) = state.failed.items()
    assert error in said
    found = json.loads(Store(tmp_path).failure(address).read_text())
    assert found["inputs"] == {"name": name}
    assert error in found["error"]
    traceback = (tmp_path / "failures" / found["traceback"]).read_text()
    assert state.tracebacks[address] == tmp_path / "failures" / found["traceback"]
    assert ("Traceback" in traceback) == (name != "die")
    (tmp_path / "mended").touch()
    assert go(plan, tmp_path, engine, EVIL).finished_runs == 1  # not tried again by itself
    Store(tmp_path).forget_failure(address)
    assert go(plan, tmp_path, engine, EVIL).finished_runs == 2
    assert not list(tmp_path.glob("failures/*"))


def test_worker_that_is_killed_is_replaced(tmp_path: Path, engine: LocalEngine) -> None:
    state = go(plan_of(("die once", "test"), ("good",)), tmp_path, engine, EVIL)
    assert state.finished_runs == 2
    assert not state.failed


def test_full_disk_ends_the_sweep_and_counts_as_nobodys_failure(tmp_path: Path, engine: LocalEngine) -> None:
    plan = plan_of(("no room",), ("good",))
    with pytest.raises(SweepError, match=r"there is no room left for .*cannot be written.*make room"):
        go(plan, tmp_path, engine, EVIL)
    assert not list(tmp_path.glob("failures/*"))
    (tmp_path / "mended").touch()
    engine.close()
    assert go(plan, tmp_path, engine, EVIL).finished_runs == 2


def test_two_sweeps_on_one_folder_share_the_work(tmp_path: Path) -> None:
    plan = plan_of(*((f"stage {number}", "test") for number in range(12)), seconds=0.05)
    states: list[State] = []

    def sweep() -> None:
        engine = LocalEngine(2)
        try:
            states.append(go(plan, tmp_path, engine))
        finally:
            engine.close()

    threads = [threading.Thread(target=sweep) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [state.finished_runs for state in states] == [12, 12]
    assert len(calls(tmp_path)) == 24


def test_lock_of_a_killed_process_is_no_obstacle(tmp_path: Path, engine: LocalEngine) -> None:
    plan = plan_of(("die",))
    (address,) = plan.stages
    go(plan, tmp_path, engine, EVIL)
    store = Store(tmp_path)
    assert store.lock(address).exists()  # left behind …
    assert not is_held(store.lock(address))  # … and worth nothing
    store.forget_failure(address)
    assert go(plan, tmp_path, engine).finished_runs == 1


def test_lock_keeps_others_out_for_as_long_as_it_is_held(tmp_path: Path) -> None:
    with claim(tmp_path / "a.lock") as ours:
        assert ours
        with claim(tmp_path / "a.lock") as theirs:
            assert not theirs
        assert is_held(tmp_path / "a.lock")
    assert not is_held(tmp_path / "a.lock")
    assert not is_held(tmp_path / "never.lock")


def test_addresses_are_those_of_inputs_and_of_nothing_else() -> None:
    stage = Stage("train", {"epochs": 3, "seed": 0}, {"ticket": "prune-1"}, {"device": "cpu"}, "a run")
    assert stage.address == Stage("train", {"seed": 0, "epochs": 3}, {"ticket": "prune-1"}, {"device": "cuda"}).address
    others = [
        Stage("dense", stage.inputs, stage.needs),
        Stage("train", {**stage.inputs, "epochs": 4}, stage.needs),
        Stage("train", {**stage.inputs, "momentum": 0.9}, stage.needs),
        Stage("train", stage.inputs, {"ticket": "prune-2"}),
        Stage("train", stage.inputs, {"weights": "prune-1"}),
    ]
    assert len({stage.address, *(other.address for other in others)}) == 6


def test_plan_survives_its_file() -> None:
    plan = plan_of(("dense", "a"), ("dense", "b"))
    plan.key, plan.watched = "key", {"/data": "looked so"}
    again = SweepPlan.from_json(plan.to_json())
    assert again == plan
    assert [stage.address for stage in again.stages.values()] == list(plan.stages)


def test_standing_by_hand(tmp_path: Path, engine: LocalEngine) -> None:
    plan = plan_of(("dense", "a"), ("dense", "b"), ("raise",))
    go(plan, tmp_path, engine, EVIL)
    dense, a, b, bad = plan.stages
    assert standing(plan, [dense, a], [bad], [b])._asdict() == {
        **{"runs": 3, "finished": 1, "failed": 1, "running": 1, "waiting": 0},
    }
    assert status(Store(tmp_path)) == []  # nobody has planned a sweep here
    path = Store(tmp_path).plan_file("mine")
    path.parent.mkdir()
    path.write_text(plan.to_json())
    (found,) = status(Store(tmp_path))
    assert (found["sweep"], found["runs"], found["finished"], found["failed"], found["waiting"]) == ("mine", 3, 2, 1, 0)
    assert found["failures"] == {bad: {"stage": "made up of raise", "file": str(Store(tmp_path).failure(bad))}}


def test_failures_of_one_label_are_all_told(tmp_path: Path) -> None:
    stages = [Stage(kind, {}, label="layer snip 1 seed 0") for kind in ("train", "evaluate")]
    plan, store = SweepPlan(), Store(tmp_path)
    for stage in stages:
        plan.add_run("of one name", {}, plan.add(stage))
        store.failure(stage.address).parent.mkdir(exist_ok=True)
        store.failure(stage.address).write_text("{}")
    store.plan_file("mine").parent.mkdir()
    store.plan_file("mine").write_text(plan.to_json())
    wanted = {f"{stage.kind} of layer snip 1 seed 0" for stage in stages}
    (found,) = status(store)
    assert {each["stage"] for each in found["failures"].values()} == wanted
    summary = summarize(State(plan, set(), failed={stage.address: "no" for stage in stages}), store)
    assert {each["stage"] for each in summary["failed"].values()} == wanted


@pytest.mark.parametrize(("workers", "tasks"), [(None, 8), (1, 1), (5, 5), (100, 8)])
def test_ray_is_given_no_more_tasks_than_workers_were_asked_for(workers: int | None, tasks: int) -> None:
    engine = RayEngine.__new__(RayEngine)  # without a cluster
    engine._most, engine._ray = workers, SimpleNamespace(cluster_resources=lambda: {"CPU": 4.0})
    assert engine.workers == tasks


def test_scheduling_waits_for_no_clock(tmp_path: Path, engine: LocalEngine) -> None:
    go(plan_of(("warm up",)), tmp_path, engine)
    start = time.perf_counter()
    go(plan_of(*((f"{number}",) for number in range(100))), tmp_path, engine)
    assert time.perf_counter() - start < 100 * 0.1  # a tenth of what polling twice a second would take
