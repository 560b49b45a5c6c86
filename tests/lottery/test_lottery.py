"""The two algorithms against the same steps taken by hand, and a folder that is a sweep's."""

from __future__ import annotations

import json
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import LINEAR_BLOCKS

from robustprune.data import ImageData
from robustprune.errors import PruningError, PruningWarning, RobustPruneError, SweepError
from robustprune.inference import predict_logits
from robustprune.lottery import LotteryResults, algorithm_1, algorithm_2, run_lottery
from robustprune.metrics import accuracy
from robustprune.models import build_model
from robustprune.pruning import CRITERIA, score_blocks
from robustprune.runtime.work import Work
from robustprune.sweep import Store, stages
from robustprune.sweep.query import load_rows
from robustprune.sweep.status import status
from robustprune.sweep.store import claim
from robustprune.tickets import prune_layers
from robustprune.tickets.requests import Pruning
from robustprune.tickets.ticket import Ticket, load_ticket
from robustprune.training import Recipe, train

RECIPE = Recipe("quick", epochs=3, batch_size=64)
SMALL: dict[str, Any] = {"recipe": RECIPE, "model": "resnet20", "model_options": {"width": 4}, "country": None}
ASKED = algorithm_2("random", p=1)


def without_times(results: LotteryResults) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(results.to_dict()))
    for ticket in found["tickets"]:
        for seed in ticket["seeds"].values():
            del seed["training_seconds"], seed["path"]
    return found


def stages_of(folder: Path, kind: str) -> list[Path]:
    return sorted(folder.glob(f"stages/{kind}-*"))


@pytest.fixture(scope="module")
def finished(few_digits: ImageData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which ``ASKED`` was run."""
    folder = tmp_path_factory.mktemp("finished")
    run_lottery(folder, few_digits, ASKED, **SMALL)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(finished, tmp_path / "copy")


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Epochs that trainings begin after, as they are."""
    done: list[int] = []
    real = stages.train_to_file

    def spy(ticket: Ticket, data: ImageData, out: Path, *given: Any, **options: Any) -> Ticket:
        done.append(options.get("start_epoch", 0))
        return real(ticket, data, out, *given, **options)

    monkeypatch.setattr(stages, "train_to_file", spy)
    return done


def test_algorithm_1_by_hand(few_digits: ImageData, tmp_path: Path) -> None:
    tickets = [algorithm_1("hrank", p=2, i=epoch) for epoch in (0, 1)]
    results = run_lottery(tmp_path / "out", few_digits, tickets, seeds=[4], **SMALL)
    theta = Ticket.from_model(build_model("resnet20", few_digits, width=4, seed=4), few_digits)
    train(theta, few_digits, RECIPE, seed=4, stop_epoch=1, country=None)
    dense = Ticket.from_model(build_model("resnet20", few_digits, width=4, seed=4), few_digits)
    train(dense, few_digits, RECIPE, seed=4, country=None)
    scores = score_blocks(dense.network, few_digits, "hrank", seed=4)
    removed = list(prune_layers(dense, scores, blocks=2).plan.removed)
    test = few_digits.require("test")
    dense_accuracy = accuracy(predict_logits(dense.model(), test.images), test.labels)
    assert results.dense[4].clean.accuracy == dense_accuracy
    starts = {0: build_model("resnet20", few_digits, width=4, seed=4), 1: theta.network}
    for epoch, row in enumerate(results.rows):
        # By hand: the blocks taken out of the earlier network, as its own scores would have it.
        by_name = dict.fromkeys(scores, 1.0) | {name: -1.0 / (1 + place) for place, name in enumerate(removed)}
        ticket = prune_layers(
            Ticket(starts[epoch], dense.architecture, data=dense.data),
            type(scores)(by_name, criterion="by hand"),
            blocks=2,
        )
        train(ticket, few_digits, RECIPE, seed=4, start_epoch=epoch, country=None)
        assert row.records[4].model.sha256 == ticket.sha256
        expected = accuracy(predict_logits(ticket.model(), test.images), test.labels)
        assert row.mean == pytest.approx(100 * (expected - dense_accuracy))
        assert row.interval is None
        kept = load_ticket(row.records[4].model.path or "")
        assert kept.plan.rewound_to == epoch
        assert kept.plan.criterion == "hrank"
        assert kept.scores == pytest.approx(dict(scores))
        assert [run["epochs"] for run in kept.earlier_training] == [3]


@pytest.mark.slow
def test_algorithm_2_by_hand(few_digits: ImageData, tmp_path: Path) -> None:
    results = run_lottery(tmp_path, few_digits, algorithm_2("snip", p=1), seeds=[2], **SMALL)
    model = build_model("resnet20", few_digits, width=4, seed=2)
    ticket = prune_layers(model, score_blocks(model, few_digits, "snip", seed=2), blocks=1, data=few_digits)
    train(ticket, few_digits, RECIPE, seed=2, country=None)
    found = results.rows[0].records[2].model
    assert found.sha256 == ticket.sha256
    assert found.earlier_training == []  # nothing had to be trained to find it


def test_only_what_is_new_is_run(few_digits: ImageData, tmp_path: Path, trainings: list[int]) -> None:
    asked = [algorithm_1("expected_abs", p=1, i=epoch) for epoch in (0, 1)]
    first = run_lottery(tmp_path, few_digits, asked, **SMALL)
    assert trainings == [0, 0, 1]
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = run_lottery(tmp_path, few_digits, asked, **SMALL)
    assert trainings == [0, 0, 1]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == stamps
    assert again.to_dict() == first.to_dict()
    more = run_lottery(tmp_path, few_digits, [asked[0], algorithm_1("expected_abs", p=3)], **SMALL)
    assert len(stages_of(tmp_path, "dense")) == 1
    assert more.rows[0].to_dict() == first.rows[0].to_dict()
    assert trainings == [0, 0, 1, 0]


@pytest.mark.slow
def test_the_folder_is_a_sweeps(few_digits: ImageData, folder: Path) -> None:
    results = run_lottery(folder, few_digits, ASKED, seeds=[0, 1], **SMALL)
    standing = max(status(Store(folder)), key=lambda each: each["runs"])  # beside that of the one seed
    assert (standing["runs"], standing["finished"], standing["stages"]) == (4, 4, standing["stages_done"])
    rows = {row["run"]: row["accuracy"] for row in load_rows(folder)}
    assert rows["layer random 1 seed 1"] == results.rows[0].records[1].clean.accuracy
    assert rows["dense seed 0"] == results.dense[0].clean.accuracy


@pytest.mark.slow
def test_equal_tickets_share_one_training(few_digits: ImageData, tmp_path: Path, trainings: list[int]) -> None:
    results = run_lottery(tmp_path, few_digits, algorithm_2("random", p=3), **SMALL)
    further = [algorithm_2(criterion, p=3) for criterion in ("snip", "grasp")]
    rows = (*results.rows, *run_lottery(tmp_path, few_digits, further, **SMALL).rows)
    # Three of resnet20's blocks is one of every stage at most: there are eight such tickets.
    files = {row.records[0].model.sha256 for row in rows}
    assert len(trainings) == 1 + len(files)
    assert len({row.records[0].model.path for row in rows}) == 3
    plans = [load_ticket(row.records[0].model.path or "").plan for row in rows]
    assert [plan.criterion for plan in plans] == ["random", "snip", "grasp"]
    assert [set(plan.removed) for plan in plans] == [set(row.records[0].model.removed) for row in rows]


@pytest.mark.slow
def test_killed_and_called_again_ends_the_same(few_digits: ImageData, tmp_path: Path) -> None:
    tickets = [algorithm_1(name, p=2, i=origin) for name in ("expected_abs", "random") for origin in (1, "random")]
    expected = run_lottery(tmp_path / "straight", few_digits, tickets, **SMALL)
    left = [0]

    def stop(_label: str, _done: float, _total: float) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    finished = None
    for _attempt in range(30):
        left[0] = 12
        try:
            finished = run_lottery(tmp_path / "killed", few_digits, tickets, work=Work(progress=stop), **SMALL)
            break
        except KeyboardInterrupt:
            continue
    assert finished is not None
    assert _attempt > 2
    assert without_times(finished) == without_times(expected)
    assert not list((tmp_path / "killed").rglob("*.checkpoint"))


@pytest.mark.slow
def test_later_rewinding_points_repeat_the_first_epochs(few_digits: ImageData, tmp_path: Path) -> None:
    asked = [algorithm_1("expected_abs", p=2, i=epoch) for epoch in (0, 1, 2)]
    straight = run_lottery(tmp_path / "a", few_digits, asked, **SMALL)
    run_lottery(tmp_path / "b", few_digits, asked[:1], **SMALL)
    later = run_lottery(tmp_path / "b", few_digits, asked, **SMALL)
    assert without_times(later) == without_times(straight)
    for first, second in zip(stages_of(tmp_path / "a", "weights"), stages_of(tmp_path / "b", "weights"), strict=True):
        assert load_ticket(first / "ticket.pt").sha256 == load_ticket(second / "ticket.pt").sha256


@pytest.mark.slow
def test_weights_that_come_out_differently_are_not_passed_off(few_digits: ImageData, tmp_path: Path) -> None:
    run_lottery(tmp_path, few_digits, algorithm_1("expected_abs", p=2), **SMALL)
    (dense,) = stages_of(tmp_path, "dense")
    trained = load_ticket(dense / "ticket.pt")
    trained.history[0]["train_loss"] += 1e-6  # as another machine's arithmetic would have it
    trained.save(dense / "ticket.pt")
    with pytest.raises(SweepError, match="comes out differently on this machine now"):
        run_lottery(tmp_path, few_digits, algorithm_1("expected_abs", p=2, i=1), **SMALL)
    assert stages_of(tmp_path, "weights") == []


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (algorithm_2("grasp", p=4), "at most 3 can go"),
        ([], "no ticket is to be found"),
        (algorithm_2("kl", p=1, method="filter"), "kl does not score filters"),
        (algorithm_2("snipp", p=1), "Did you mean 'snip'"),
        (algorithm_2("hrank", p=1, smaples=3), "Did you mean 'samples'"),
        (algorithm_2("hrank", p=1, samples=-1), "samples"),
        (algorithm_2("grasp", p=1, rewind="50%"), "starts there"),
        (algorithm_1("grasp", p=1, i=3), "leaves nothing to train"),
        (algorithm_1("grasp", p=1, i="early"), "is no rewinding point"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    few_digits: ImageData, tmp_path: Path, asked: Any, words: str
) -> None:
    with pytest.raises(RobustPruneError, match=words):
        run_lottery(tmp_path, few_digits, asked, **SMALL)
    assert not list(tmp_path.iterdir())


def test_no_seed_is_no_lottery(few_digits: ImageData, tmp_path: Path) -> None:
    with pytest.raises(PruningError, match="no seed is named"):
        run_lottery(tmp_path, few_digits, algorithm_2("grasp", p=1), seeds=[], **SMALL)


@pytest.mark.slow
def test_a_share_of_the_epochs_and_their_number_are_one_ticket(few_digits: ImageData, tmp_path: Path) -> None:
    results = run_lottery(tmp_path, few_digits, [algorithm_1("random", p=1, i=each) for each in ("34%", 1)], **SMALL)
    assert [row.point.origin for row in results.rows] == [1]


@pytest.mark.slow
def test_tables_have_the_shapes_of_the_papers(few_digits: ImageData, tmp_path: Path) -> None:
    origins, criteria = ("0", "34%", "random"), ("expected_abs", "random")
    asked = [algorithm_1(criterion, p=1, i=origin) for criterion in criteria for origin in origins]
    one = run_lottery(tmp_path, few_digits, asked, **SMALL)
    columns, rows = one.table()
    assert columns == ["criterion", "method", ">blocks", ">epoch 0", ">epoch 1", ">random weights"]
    assert [row[:3] for row in rows] == [["expected_abs", "layer", "1"], ["random", "layer", "1"]]
    assert rows[1][4] == f"{one.rows[4].mean:+.2f}".replace("-", "−")
    asked = [algorithm_1("expected_abs", p=p) for p in (1, 2)]
    several = run_lottery(tmp_path, few_digits, asked, seeds=[0, 1, 2], **SMALL)
    columns, rows = several.table()
    assert columns == ["criterion", "method", ">1 block", ">2 blocks"]
    row = several.rows[1]
    assert row.interval is not None
    cells = [f"{row.mean:+.2f} ± {row.interval[1] - row.mean:.2f}".replace("-", "−") for row in several.rows]  # type: ignore[index]
    assert rows == [["expected_abs", "layer", *cells]]
    for seed in (0, 1, 2):
        difference = row.records[seed].clean.accuracy - several.dense[seed].clean.accuracy
        assert row.differences[seed] == pytest.approx(100 * difference)


def test_network_without_filters_to_spare_is_refused_before_training(few_digits: ImageData, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(LINEAR_BLOCKS)
    settings = {**SMALL, "model": f"file:{tmp_path}/net.py:Net", "model_options": {}}
    asked = [algorithm_2("grasp", p=1, method=method, eligibility="identity") for method in ("layer", "filter")]
    with pytest.raises(RobustPruneError, match="no filters of this network can go"):
        run_lottery(tmp_path / "out", few_digits, asked, **settings)
    assert not (tmp_path / "out").exists()


def test_plug_in_that_is_no_criterion_is_a_clean_error(
    few_digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CRITERIA, "get", lambda _name: lambda: None)
    with pytest.raises(RobustPruneError, match=r"no subclass of robustprune\.pruning\.Criterion"):
        run_lottery(tmp_path, few_digits, algorithm_2("grasp", p=1), **SMALL)


@pytest.mark.slow
def test_networks_of_other_arithmetic_are_not_compared_in_silence(few_digits: ImageData, folder: Path) -> None:
    (dense,) = stages_of(folder, "dense")
    described = json.loads((dense / "stage.json").read_text())
    described["environment"]["torch"] = "1.0"
    (dense / "stage.json").write_text(json.dumps(described))
    with pytest.warns(PruningWarning, match=r"trained with torch 1\.0 and .*rounded otherwise"):
        run_lottery(folder, few_digits, ASKED, **SMALL)
    # Other threads are another dense network.
    torch.set_num_threads(2)
    try:
        run_lottery(folder, few_digits, ASKED, **SMALL)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert len(stages_of(folder, "dense")) == 2


def test_images_that_were_moved_are_the_same(few_digits: ImageData, folder: Path) -> None:
    first = run_lottery(folder, few_digits, ASKED, **SMALL)
    moved = replace(few_digits, provenance={**few_digits.provenance, "root": "/elsewhere", "source": "/elsewhere/x"})
    assert run_lottery(folder, moved, ASKED, **SMALL).to_dict() == first.to_dict()
    assert len(stages_of(folder, "dense")) == 1


def test_moved_folder_names_its_files_where_they_are(few_digits: ImageData, folder: Path, tmp_path: Path) -> None:
    first = run_lottery(folder, few_digits, ASKED, **SMALL)
    shutil.move(folder, tmp_path / "b")
    again = run_lottery(tmp_path / "b", few_digits, ASKED, **SMALL)
    (seed,) = again.to_dict()["tickets"][0]["seeds"].values()
    assert str(tmp_path / "b") in seed["path"]
    assert load_ticket(seed["path"]).sha256 == seed["sha256"] == first.rows[0].records[0].model.sha256


def test_code_that_has_changed_is_another_network(few_digits: ImageData, tmp_path: Path, trainings: list[int]) -> None:
    code = tmp_path / "net.py"
    settings = {**SMALL, "model": f"file:{code}:Net", "model_options": {}}
    asked = algorithm_2("random", p=1, eligibility="identity")
    code.write_text(LINEAR_BLOCKS)
    run_lottery(tmp_path / "out", few_digits, asked, **settings)
    run_lottery(tmp_path / "out", few_digits, asked, **settings)
    assert len(trainings) == 2
    code.write_text(LINEAR_BLOCKS.replace("relu", "gelu"))
    run_lottery(tmp_path / "out", few_digits, asked, **settings)
    assert len(trainings) == 4


@pytest.mark.slow
def test_weights_that_have_changed_are_another_network(
    few_digits: ImageData, tmp_path: Path, trainings: list[int]
) -> None:
    start = build_model("resnet20", few_digits, width=4, seed=3).state_dict()
    options = {"width": 4, "weights_file": str(tmp_path / "weights.pt")}
    torch.save(start, tmp_path / "weights.pt")
    run_lottery(tmp_path / "own", few_digits, ASKED, **{**SMALL, "model_options": options})
    (ticket,) = [load_ticket(path / "ticket.pt") for path in stages_of(tmp_path / "own", "prune")]
    assert all(torch.equal(value, start[name]) for name, value in ticket.network.state_dict().items())
    torch.save({name: value + 1 for name, value in start.items()}, tmp_path / "weights.pt")
    run_lottery(tmp_path / "own", few_digits, ASKED, **{**SMALL, "model_options": options})
    assert len(trainings) == 4


@pytest.mark.slow
def test_filters_are_matched_by_the_cost_that_is_named(few_digits: ImageData, tmp_path: Path) -> None:
    asked = [algorithm_2("snip", p=1, method="filter", match_by=by) for by in ("filters", "macs")]
    results = run_lottery(tmp_path, few_digits, asked, **SMALL)
    for by, row in zip(("filters", "macs"), results.rows, strict=True):
        match = load_ticket(row.records[0].model.path or "").plan.match
        assert match is not None
        assert match.by == by
    assert len(stages_of(tmp_path, "prune")) == 3  # both are matched to one layer ticket
    with pytest.raises(PruningError, match="'macs'"):
        Pruning("filter", criterion="snip", blocks=1, match_by="mac")


def test_a_stage_that_another_process_works_on_is_waited_for(
    few_digits: ImageData, folder: Path, tmp_path: Path
) -> None:
    straight = run_lottery(folder, few_digits, ASKED, **SMALL)
    (dense,) = stages_of(folder, "dense")
    lock = Store(tmp_path / "b").lock(dense.name)
    lock.parent.mkdir(parents=True)
    held = threading.Event()

    def work_elsewhere() -> None:  # which takes a second, and then leaves the stage
        with claim(lock) as is_ours:
            assert is_ours
            held.set()
            time.sleep(1)
            shutil.copytree(dense, Store(tmp_path / "b").stage(dense.name))

    other = threading.Thread(target=work_elsewhere)
    other.start()
    held.wait()
    results = run_lottery(tmp_path / "b", few_digits, ASKED, **SMALL)
    other.join()
    assert without_times(results) == without_times(straight)
    stamp = (dense / "stage.json").read_text()
    assert (Store(tmp_path / "b").stage(dense.name) / "stage.json").read_text() == stamp
