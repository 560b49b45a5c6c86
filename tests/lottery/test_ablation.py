"""An ablation's controls, read from the tickets that it leaves, and its verdicts, from the records."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import TINY, TWO_STAGES, Run, check_failure
from synthetic_records import make_record

from robustprune.comparison import compare
from robustprune.comparison.difference import holm
from robustprune.data import ImageData
from robustprune.errors import ModelError, PruningError
from robustprune.lottery import AblationResults, ablate, algorithm_1, algorithm_2
from robustprune.lottery.ablation import CONTROLS
from robustprune.lottery.ablation_results import AblatedTicket
from robustprune.records import Record
from robustprune.sweep import Store, stages
from robustprune.sweep.status import status
from robustprune.tickets.requests import Pruning
from robustprune.tickets.ticket import Ticket, load_ticket
from robustprune.training import Recipe

STAGES = {f"stages.{stage}.{place}": stage for stage in (0, 1) for place in range(3)}
RECIPE = Recipe("quick", epochs=1, batch_size=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ablation")


@pytest.fixture(scope="module")
def trained() -> list[tuple[str, str]]:
    """Weights before and after each training that was finished."""
    return []


@pytest.fixture(scope="module")
def results(few_digits: ImageData, folder: Path, trained: list[tuple[str, str]]) -> AblationResults:
    """Of a first call that is interrupted after its third training, and a second one."""
    (folder / "net.py").write_text(TWO_STAGES)
    asked: dict[str, Any] = {"recipe": RECIPE, "model": f"file:{folder}/net.py:Net", "country": None}
    ticket = algorithm_2("snip", p=3, eligibility="identity")
    real, interrupted = stages.train_to_file, []

    def train(own: Ticket, *given: Any, **how: Any) -> Ticket:
        if len(trained) == 3 and not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        start = own.sha256
        trained.append((start, real(own, *given, **how).sha256))
        return own

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "train_to_file", train)
        with pytest.raises(KeyboardInterrupt):
            ablate(folder / "out", few_digits, ticket, **asked)
        return ablate(folder / "out", few_digits, ticket, **asked)


def kept(results: AblationResults, name: str) -> Ticket:
    return load_ticket(results.records[name][0].model.path or "", model_code=results.model.removeprefix("file:"))


def test_networks_that_are_the_same_are_trained_once(
    results: AblationResults, trained: list[tuple[str, str]], folder: Path
) -> None:
    others = ("random per stage", "inverted", "shuffled", "re-initialized")
    assert list(results.records) == ["dense", "random", "snip", *(f"snip {control}" for control in others)]
    starts, ends = ({pair[side] for pair in trained} for side in (0, 1))
    assert len(starts) == len(trained)
    assert ends == {own[0].model.sha256 for own in results.records.values()}
    (standing,) = status(Store(folder / "out"))
    assert standing["finished"] == len(results.records)


def test_choices_by_the_scores_of_one_ranking(results: AblationResults) -> None:
    own, *others = (kept(results, f"snip{control}") for control in ("", " random per stage", " inverted"))
    per_stage, inverted = (ticket.plan for ticket in others)
    assert all(ticket.scores == own.scores for ticket in others)
    ranking = sorted(own.scores, key=lambda block: own.scores[block])
    assert [*own.plan.removed] == ranking[:3]
    assert [*inverted.removed] == ranking[:-4:-1]
    assert Counter(map(STAGES.get, per_stage.removed)) == Counter(map(STAGES.get, own.plan.removed))
    assert (own.plan.choice, per_stage.choice, inverted.choice) == ("lowest", "random-per-stage", "highest")


def test_weights_of_the_same_ticket(results: AblationResults) -> None:
    plans = {name: kept(results, name).plan for name in ("snip", "snip shuffled", "snip re-initialized")}
    assert [plan.rewound_to for plan in plans.values()] == [0, "shuffled", "random"]
    assert len({tuple(plan.removed) for plan in plans.values()}) == 1
    assert len({results.records[name][0].model.sha256 for name in plans}) == 3
    assert results.with_own_blocks(results.tickets[0], "shuffled") == 1


def made_up(accuracies: dict[str, float], seeds: int = 5, n: int = 2000) -> AblationResults:
    """Return results for networks of given accuracies; what has none is as good as the ticket."""
    names = {control: f"grasp {control}" for control in CONTROLS} | {"random": "random"}

    def record(group: str, seed: int) -> Record:
        found = make_record(kind=group, seed=seed, n=n, accuracy=accuracies.get(group, 0.9))
        return found.model_copy(update={"model": found.model.model_copy(update={"removed": [group]})})

    groups = ("dense", "grasp", *names.values())
    records = {group: {seed: record(group, seed) for seed in range(seeds)} for group in groups}
    return AblationResults("resnet20", "digits", 3, records, (AblatedTicket("grasp", algorithm_2("grasp", 2), names),))


def test_verdicts_are_those_of_the_pairs_and_corrected_together() -> None:
    results = made_up({"random": 0.85, "grasp inverted": 0.8, "grasp shuffled": 0.98})
    found = results.judge(tolerance=2.0)
    assert {row.candidate for row in found.comparison.rows} == {"grasp"}
    groups = {name: list(own.values()) for name, own in results.records.items()}
    alone = [
        compare(None, {name: groups[name] for name in (row.against, "grasp")}, against=row.against, tolerance=2.0).rows[
            0
        ]
        for row in found.comparison.rows
    ]
    for row, other in zip(found.comparison.rows, alone, strict=True):
        assert (row.difference, row.interval, row.verdict) == (other.difference, other.interval, other.verdict)
    corrected = holm([row.p_value or 0 for row in alone])
    assert [row.p_adjusted for row in found.comparison.rows] == corrected
    sentences = dict(zip(CONTROLS, found.sentences(results.tickets[0]), strict=True))
    assert sentences["random"].startswith(
        "The choice of blocks by grasp adds accuracy beyond chance: grasp vs. random, +"
    )
    assert sentences["random per stage"].startswith(
        "The choice of blocks by grasp changes accuracy by less than 2 pp beyond how"
    )
    assert (
        "grasp tickets adds no accuracy beyond the values in each tensor, but costs some: grasp vs. grasp shuffled, −"
        in (sentences["shuffled"])
    )
    columns, rows = found.table(results.tickets[0])
    assert [row[0] for row in rows] == [*CONTROLS, "dense"]
    assert all(len(row) == len(columns) for row in rows)


def test_what_one_seed_shows_is_of_these_networks() -> None:
    results = made_up({"random": 0.8}, seeds=1)
    found = results.judge()
    assert all(each.startswith("Of these networks alone, ") for each in found.sentences(results.tickets[0]))
    assert len(found.limitations) == len(set(found.limitations))
    assert re.search("Of these networks alone, the choice of blocks", found._repr_html_())


def test_controls_that_lack_the_same_blocks_tell_nothing() -> None:
    results = made_up({}, seeds=1)
    records = {**results.records, "random": results.records["grasp"]}
    found = replace(results, records=records).judge()
    _, chance, *_ = found.sentences(results.tickets[0])
    assert chance.endswith("cannot be told: the controls lack the very blocks it chose.")
    assert "random 1, inverted 0." in found.notes(results.tickets[0])[0]


def test_a_gain_that_correction_takes_away_is_undecided() -> None:
    results = made_up({"random": 0.87}, seeds=1, n=1000)
    found = results.judge()
    (row,) = (row for row in found.comparison.rows if row.against == "random")
    assert row.verdict == "better"
    assert (row.p_value or 1) < 0.06 < (row.p_adjusted or 0)
    sentence = found.sentences(results.tickets[0])[1]
    assert "whether the choice of blocks by grasp adds accuracy beyond chance is undecided, as p is" in sentence


def test_criteria_share_random_blocks_and_are_told_apart(
    few_digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[Pruning]] = []

    def note(_kind: str, _dense: object, networks: list[Pruning], *_rest: object) -> list[dict[int, Any]]:
        asked.append(networks)
        return [{} for _ in networks]

    monkeypatch.setattr("robustprune.lottery.ablation.run_networks", note)
    two = ablate(tmp_path, few_digits, [algorithm_2("snip", p=1), algorithm_2("grasp", p=1)])
    assert len(asked[0]) == 2 + 2 * 5
    assert [own.controls["random"] for own in two.tickets] == ["random", "random"]
    sizes = ablate(tmp_path, few_digits, [algorithm_2("grasp", p=1), algorithm_2("grasp", p=2)])
    assert [own.controls["random"] for own in sizes.tickets] == ["random 1", "random 2"]
    found = ablate(tmp_path, few_digits, [algorithm_2("grasp", p=1), algorithm_1("grasp", p=1)])
    assert [own.name for own in found.tickets] == [*("grasp 1 paper at initialization", "grasp 1 paper after training")]


@pytest.mark.parametrize(
    ("ticket", "words"),
    [
        (algorithm_2("random", p=1), "random choices are a control"),
        (algorithm_2("grasp", p=1, choice="highest"), "are what controls differ in"),
        (algorithm_1("grasp", p=1, i="50%"), "are what controls differ in"),
        (algorithm_2("l1", p=1, method="filter"), "of the method 'layer'"),
        ([], "no ticket is to be found"),
    ],
)
def test_what_has_no_controls_is_refused(few_digits: ImageData, tmp_path: Path, ticket: Any, words: str) -> None:
    with pytest.raises(PruningError, match=words):
        ablate(tmp_path, few_digits, ticket)
    with pytest.raises(ModelError, match="file:PATH:NAME"):
        ablate(tmp_path, few_digits, algorithm_2("grasp", 1), model=object())  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_command(run: Run) -> None:
    small = ("--train-limit", "200", "--no-energy", "--batch-size", "64", "--epochs", "1", "--threads", "1")
    arguments = ("ablate", *TINY, *small, "--criterion", "snip", "--blocks", "2", "--seeds", "3", "--out", "out")
    first = run(*arguments)
    assert first.code == 0
    for word in ("the choice of blocks by snip", "snip, 2 blocks: accuracy", "re-initialized", "mean of 3 seeds"):
        assert word.lower() in first.out.lower()
    found = run(*arguments, "--json").json
    assert set(found["networks"]) == {row["against"] for row in found["comparison"]["rows"]} | {"snip"}
    (standing,) = run("status", "out", "--json").json
    assert (standing["runs"], standing["finished"]) == (21, 21)
    assert run("report", "out", "--out", "report.html").code == 0


def test_wrong_input(run: Run) -> None:
    check_failure(run("ablate", *TINY, "--criterion", "random", "--out", "out"), 1, "cannot be ablated")
    check_failure(run("ablate", *TINY, "--blocks", "none", "--out", "out"), 2, "whole numbers")
    check_failure(run("ablate", *TINY, "--tolerance", "wide", "--out", "out"), 2, "percentage points")
    assert not Path("out").exists()
