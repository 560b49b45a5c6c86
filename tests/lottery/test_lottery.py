"""The two algorithms against the same steps taken by hand, and stages that are not run again."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import LINEAR_BLOCKS

from robustprune.data import ImageData, load_data
from robustprune.errors import PruningError, PruningWarning, RobustPruneError
from robustprune.lottery import LotteryResults, run_lottery, stages
from robustprune.metrics import accuracy
from robustprune.models import build_model, predict_logits
from robustprune.pruning import CRITERIA, score_blocks
from robustprune.tickets import prune_layers
from robustprune.tickets.ticket import Ticket, load_ticket
from robustprune.training import train, train_to_file

TRAINING: dict[str, Any] = {"epochs": 3, "batch_size": 64, "country": None}
SMALL: dict[str, Any] = {"model": "resnet20", "model_options": {"width": 4}, **TRAINING}


def without_times(results: LotteryResults) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(results.to_dict()))
    for ticket in found["tickets"]:
        for seed in ticket["seeds"].values():
            del seed["training_seconds"], seed["path"]
    return found


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Names of the files that are trained, and from which epoch on, as they are."""
    done: list[tuple[str, int]] = []
    real = stages.train_to_file

    def spy(ticket: Ticket, data: ImageData, out: Path, **options: Any) -> Ticket:
        done.append((out.name, options.get("start_epoch", 0)))
        return real(ticket, data, out, **options)

    monkeypatch.setattr(stages, "train_to_file", spy)
    return done


def test_algorithm_1_by_hand(few_digits: ImageData, tmp_path: Path) -> None:
    results = run_lottery(
        tmp_path / "out", few_digits, criteria=["hrank"], blocks=[2], rewind_to=[0, 1], seeds=[4], **SMALL
    )
    dense = Ticket.from_model(build_model("resnet20", few_digits, width=4, seed=4), few_digits)
    train_to_file(dense, few_digits, tmp_path / "d.pt", seed=4, keep={1: tmp_path / "theta.pt"}, **TRAINING)
    scores = score_blocks(dense.network, few_digits, "hrank", seed=4)
    removed = list(prune_layers(dense, scores, blocks=2).plan.removed)
    test = few_digits.require("test")
    dense_accuracy = accuracy(predict_logits(dense.model(), test.images), test.labels)
    assert results.dense[4].clean.accuracy == dense_accuracy
    starts = {0: build_model("resnet20", few_digits, width=4, seed=4), 1: load_ticket(tmp_path / "theta.pt").network}
    for epoch, row in enumerate(results.rows):
        # By hand: the blocks taken out of the earlier network, as its own scores would have it.
        by_name = dict.fromkeys(scores, 1.0) | {name: -1.0 / (1 + place) for place, name in enumerate(removed)}
        ticket = prune_layers(
            Ticket(starts[epoch], dense.architecture, data=dense.data),
            type(scores)(by_name, criterion="by hand"),
            blocks=2,
        )
        train(ticket, few_digits, seed=4, start_epoch=epoch, **TRAINING)
        assert row.records[4].model.sha256 == ticket.sha256
        expected = accuracy(predict_logits(ticket.model(), test.images), test.labels)
        assert row.mean == pytest.approx(100 * (expected - dense_accuracy))
        assert row.interval is None
        kept = load_ticket(row.records[4].model.path or "")
        assert kept.plan.rewound_to == epoch
        assert kept.plan.criterion == "hrank"
        assert kept.scores == pytest.approx(dict(scores))
        assert [run["epochs"] for run in kept.earlier_training] == [3]


def test_algorithm_2_by_hand(few_digits: ImageData, tmp_path: Path) -> None:
    results = run_lottery(tmp_path, few_digits, criteria=["snip"], blocks=[1], at_init=True, seeds=[2], **SMALL)
    model = build_model("resnet20", few_digits, width=4, seed=2)
    ticket = prune_layers(model, score_blocks(model, few_digits, "snip", seed=2), blocks=1, data=few_digits)
    train(ticket, few_digits, seed=2, **TRAINING)
    found = results.rows[0].records[2].model
    assert found.sha256 == ticket.sha256
    assert found.earlier_training == []  # nothing had to be trained to find it


def test_only_what_is_new_is_run(few_digits: ImageData, tmp_path: Path, trainings: list[tuple[str, int]]) -> None:
    first = run_lottery(tmp_path, few_digits, criteria=["expected_abs"], blocks=[1], rewind_to=[0, 1], **SMALL)
    assert len(trainings) == 3
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = run_lottery(tmp_path, few_digits, criteria=["expected_abs"], blocks=[1], rewind_to=[0, 1], **SMALL)
    assert len(trainings) == 3
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == stamps
    assert again.to_dict() == first.to_dict()
    more = run_lottery(tmp_path, few_digits, criteria=["expected_abs", "random"], blocks=[1, 3], rewind_to=[0], **SMALL)
    assert [name for name, _ in trainings].count("trained.pt") == 1
    assert more.rows[0].to_dict() == first.rows[0].to_dict()
    # Three new tickets at most: the two criteria may have chosen the same block.
    assert 2 <= len(trainings) - 3 <= 3


def test_equal_tickets_share_one_training(
    few_digits: ImageData, tmp_path: Path, trainings: list[tuple[str, int]]
) -> None:
    results = run_lottery(tmp_path, few_digits, criteria=["random"], blocks=[3], at_init=True, **SMALL)
    after = run_lottery(tmp_path, few_digits, criteria=["snip", "grasp", "hrank"], blocks=[3], at_init=True, **SMALL)
    # Three of resnet20's blocks is one of every stage at most: there are eight such tickets.
    files = {row.records[0].model.sha256 for row in (*results.rows, *after.rows)}
    names = {name for name, _ in trainings if name != "trained.pt"}
    assert len(names) == len(files)
    assert len({row.records[0].model.path for row in (*results.rows, *after.rows)}) == 4


@pytest.mark.slow
def test_killed_and_called_again_ends_the_same(few_digits: ImageData, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "criteria": ["expected_abs", "random"],
        "blocks": [2],
        "rewind_to": ["1", "random"],
        **SMALL,
    }
    expected = run_lottery(tmp_path / "straight", few_digits, **settings)
    left = [0]

    def stop(_label: str, _done: float, _total: float) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    finished = None
    for _attempt in range(30):
        left[0] = 9
        try:
            finished = run_lottery(tmp_path / "killed", few_digits, progress=stop, **settings)
            break
        except KeyboardInterrupt:
            continue
    assert finished is not None
    assert _attempt > 2
    assert without_times(finished) == without_times(expected)
    assert not list((tmp_path / "killed").rglob("*.checkpoint"))


@pytest.mark.slow
def test_later_rewinding_points_repeat_the_first_epochs(few_digits: ImageData, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"criteria": ["expected_abs"], "blocks": [2], **SMALL}
    straight = run_lottery(tmp_path / "a", few_digits, rewind_to=[0, 1, 2], **settings)
    said: list[str] = []
    run_lottery(tmp_path / "b", few_digits, rewind_to=[0], **settings)
    later = run_lottery(tmp_path / "b", few_digits, rewind_to=[0, 1, 2], say=said.append, **settings)
    assert without_times(later) == without_times(straight)
    assert sum("repeating 2 epochs" in line for line in said) == 1
    assert sorted(os.listdir(tmp_path / "b/seed0/dense")) == sorted(os.listdir(tmp_path / "a/seed0/dense"))


def test_weights_that_come_out_differently_are_not_passed_off(few_digits: ImageData, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"criteria": ["expected_abs"], "blocks": [2], **SMALL}
    run_lottery(tmp_path, few_digits, **settings)
    trained = load_ticket(tmp_path / "seed0/dense/trained.pt")
    trained.history[0]["train_loss"] += 1e-6  # as another machine's arithmetic would have it
    trained.save(tmp_path / "seed0/dense/trained.pt")
    with pytest.raises(PruningError, match=r"comes out differently now.*--threads"):
        run_lottery(tmp_path, few_digits, rewind_to=[1], **settings)
    assert sorted(os.listdir(tmp_path / "seed0/dense")) == [
        *("epoch-0.pt", "trained.json", "trained.json.samples.npz", "trained.pt"),
    ]


def test_folder_of_another_lottery_is_refused(few_digits: ImageData, tmp_path: Path) -> None:
    run_lottery(tmp_path, few_digits, criteria=["random"], **SMALL)
    with pytest.raises(PruningError, match=r"recipe.epochs was 3, is 5"):
        run_lottery(tmp_path, few_digits, criteria=["random"], **{**SMALL, "epochs": 5})
    with pytest.raises(PruningError, match=r"model_options.width was 4, is 8"):
        run_lottery(tmp_path, few_digits, criteria=["random"], **{**SMALL, "model_options": {"width": 8}})
    with pytest.raises(PruningError, match="train_limit was 200"):
        run_lottery(tmp_path, load_data("digits"), criteria=["random"], **SMALL)
    (tmp_path / "lottery.json").write_text("{")
    with pytest.raises(PruningError, match="cannot be read as the settings"):
        run_lottery(tmp_path, few_digits, criteria=["random"], **SMALL)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"blocks": [4]}, "at most 3 can go"),
        ({"blocks": [0, 1]}, "asked for 0 blocks"),
        ({"blocks": []}, "no number of blocks is named"),
        ({"seeds": []}, "no seed is named"),
        ({"criteria": ["kl"], "methods": ["filter"]}, "kl does not score filters"),
        ({"criteria": ["snipp"]}, "Did you mean 'snip'"),
        ({"methods": ["filters"]}, "Did you mean 'filter'"),
        ({"criterion_options": {"smaples": 3}, "criteria": ["hrank"]}, "Did you mean 'samples'"),
        ({"criteria": ["hrank"], "criterion_options": {"samples": -1}}, "samples"),
        ({"at_init": True, "rewind_to": ["50%"]}, "starts from the initial weights"),
        ({"rewind_to": ["3"]}, "leaves nothing to train"),
        ({"eligibility": "all"}, "no eligibility 'all'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    few_digits: ImageData, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(RobustPruneError, match=words):
        run_lottery(tmp_path, few_digits, **{**SMALL, **settings})
    assert not list(tmp_path.iterdir())


def test_options_go_to_the_criteria_that_take_them(few_digits: ImageData, tmp_path: Path) -> None:
    options = {"samples": 64, "samples_per_class": 2}
    results = run_lottery(
        tmp_path, few_digits, criteria=["hrank", "snip", "random"], criterion_options=options, **SMALL
    )
    plans = [load_ticket(row.records[0].model.path or "").plan for row in results.rows]
    assert plans[0].options["samples"] == 64
    assert plans[1].options["samples_per_class"] == 2
    assert plans[2].options == {}
    # Other options are another ticket, in files of its own.
    plain = run_lottery(tmp_path, few_digits, criteria=["hrank"], **SMALL)
    assert plain.rows[0].records[0].model.path != results.rows[0].records[0].model.path


@pytest.mark.slow
def test_tables_have_the_shapes_of_the_papers(few_digits: ImageData, tmp_path: Path) -> None:
    seeds = [0, 1, 2]
    one = run_lottery(
        tmp_path,
        few_digits,
        criteria=["expected_abs", "random"],
        rewind_to=["0", "34%", "random"],
        seeds=seeds[:1],
        **SMALL,
    )
    columns, rows = one.table()
    assert columns == ["criterion", "method", ">blocks", ">epoch 0", ">epoch 1", ">random weights"]
    assert [row[:3] for row in rows] == [["expected_abs", "layer", "1"], ["random", "layer", "1"]]
    assert rows[1][4] == f"{one.rows[4].mean:+.2f}".replace("-", "−")
    several = run_lottery(tmp_path, few_digits, criteria=["expected_abs"], blocks=[1, 2], seeds=seeds, **SMALL)
    columns, rows = several.table()
    assert columns == ["criterion", "method", ">1 block", ">2 blocks"]
    row = several.rows[1]
    assert row.interval is not None
    cells = [f"{row.mean:+.2f} ± {row.interval[1] - row.mean:.2f}".replace("-", "−") for row in several.rows]  # type: ignore[index]
    assert rows == [["expected_abs", "layer", *cells]]
    for seed in seeds:
        difference = row.records[seed].clean.accuracy - several.dense[seed].clean.accuracy
        assert row.differences[seed] == pytest.approx(100 * difference)


def test_network_without_filters_to_spare_is_refused_before_training(few_digits: ImageData, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(LINEAR_BLOCKS)
    settings = {**SMALL, "model": f"file:{tmp_path}/net.py:Net", "model_options": {}, "eligibility": "identity"}
    with pytest.raises(PruningError, match="no filters of this network can go"):
        run_lottery(tmp_path / "out", few_digits, methods=["layer", "filter"], **settings)
    assert not (tmp_path / "out").exists()


def test_plug_in_that_is_no_criterion_is_a_clean_error(
    few_digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CRITERIA, "get", lambda _name: lambda: None)
    with pytest.raises(PruningError, match=r"no subclass of robustprune\.pruning\.Criterion"):
        run_lottery(tmp_path, few_digits, **SMALL)


def test_dense_network_of_other_threads_is_not_compared_in_silence(few_digits: ImageData, tmp_path: Path) -> None:
    run_lottery(tmp_path, few_digits, criteria=["random"], **SMALL)
    trained = load_ticket(tmp_path / "seed0/dense/trained.pt")
    trained.provenance["threads"] = 7
    trained.save(tmp_path / "seed0/dense/trained.pt")
    with pytest.warns(PruningWarning, match="threads 7, now 1: its sums were rounded otherwise"):
        run_lottery(tmp_path, few_digits, criteria=["random"], **SMALL)


def test_images_that_were_moved_are_the_same(few_digits: ImageData, tmp_path: Path) -> None:
    first = run_lottery(tmp_path, few_digits, criteria=["random"], **SMALL)
    moved = replace(few_digits, provenance={**few_digits.provenance, "root": "/elsewhere", "source": "/elsewhere/x"})
    assert run_lottery(tmp_path, moved, criteria=["random"], **SMALL).to_dict() == first.to_dict()
