"""Certification as a part of an evaluation, of its record, and of what is made of records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import Run, check_failure

import robustprune as rp
from robustprune.data import ImageData
from robustprune.errors import EvaluationError, RobustPruneError
from robustprune.models import build_model
from robustprune.records import Record, load_record
from robustprune.runtime.work import Work
from robustprune.sweep.measured import resolve_evaluation
from robustprune.sweep.query.record_rows import flatten
from robustprune.tickets.ticket import Ticket

ASKED = rp.Certify(0.05, n=60, n0=20, alpha=0.05, radii="0+0.02+0.05", limit=30)


def make(digits: ImageData, seed: int) -> Ticket:
    ticket = Ticket.from_model(build_model("resnet20", digits, width=4), digits, seed=seed)
    return rp.train(ticket, digits, epochs=1, country=None, seed=seed)


@pytest.fixture(scope="module")
def tickets(few_digits: ImageData) -> list[Ticket]:
    return [make(few_digits, seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def records(few_digits: ImageData, tickets: list[Ticket]) -> list[Record]:
    return [rp.evaluate(ticket, few_digits, certify=ASKED, limit=50) for ticket in tickets]


def test_the_record_holds_what_is_proven_and_of_which_images(records: list[Record], tmp_path: Path) -> None:
    records[0].save(tmp_path / "record.json")
    found = load_record(tmp_path / "record.json")
    assert found.model_dump() == records[0].model_dump()
    assert found.asked["certify"]["sigma"] == 0.05
    assert found.certified is not None
    assert found.samples is not None
    assert found.certified.n == 30
    radii = found.samples["certified_radius"]
    right = found.samples["certified_prediction"] == found.samples["certified_label"]
    for each in found.certified.at:
        assert each.accuracy == np.mean(right & (radii > 0) & (radii >= each.radius))
        assert each.interval[0] <= each.accuracy <= each.interval[1]
    assert [each.radius for each in found.certified.at] == [0, 0.02, 0.05]
    assert found.certified.average_radius == pytest.approx(np.mean(radii * right))
    assert found.certified.abstained == np.mean(radii == 0)
    assert found.certified.at[0].accuracy > 0
    places = np.searchsorted(found.samples["index"], found.samples["certified_index"])
    np.testing.assert_array_equal(found.samples["label"][places], found.samples["certified_label"])


def test_outcomes_of_another_record_are_refused(records: list[Record], tmp_path: Path) -> None:
    samples = records[0].samples or {}
    changed = {**samples, "certified_radius": samples["certified_radius"] + 1}
    records[0].model_copy(update={"samples": changed}).save(tmp_path / "changed.json")
    with pytest.raises(EvaluationError, match="certified"):
        load_record(tmp_path / "changed.json")
    without = {name: values for name, values in samples.items() if name != "certified_index"}
    records[0].model_copy(update={"samples": without}).save(tmp_path / "without.json")
    with pytest.raises(EvaluationError, match="certified_index"):
        load_record(tmp_path / "without.json")


def test_neither_batches_nor_an_interruption_change_it(
    few_digits: ImageData, tickets: list[Ticket], records: list[Record], tmp_path: Path
) -> None:
    class Halted(Exception):
        pass

    shown = []

    def stop(label: str, done: float, total: float) -> None:
        if label == "certifying":
            shown.append(done)
            if len(shown) == 10:
                raise Halted

    monkey = pytest.MonkeyPatch()
    monkey.setattr("robustprune.inference.saved_votes.SECONDS_BETWEEN", 0.0)
    try:
        with pytest.raises(Halted):
            rp.evaluate(tickets[0], few_digits, certify=ASKED, limit=50, work=Work(progress=stop, folder=tmp_path))
    finally:
        monkey.undo()
    work = Work(progress=stop, folder=tmp_path)
    resumed = rp.evaluate(tickets[0], few_digits, certify=ASKED, limit=50, batch_size=17, work=work)
    assert len(shown) == 10 + 1 + 30 - 9  # which the first one had finished
    for name, values in (records[0].samples or {}).items():
        if name.startswith("certified"):
            np.testing.assert_array_equal((resumed.samples or {})[name], values)


def test_certified_accuracies_are_paired(records: list[Record]) -> None:
    found = rp.compare(dense=[records[0]], candidates={"ticket": [records[1]]}, metrics=["certification"])
    rows = {row.metric: row for row in found.rows}
    assert list(rows) == [*(f"certified_accuracy[L2 {radius}]" for radius in ("0", "0.02", "0.05")), "certified_radius"]
    both = [record.samples or {} for record in records]
    proven = [
        (each["certified_prediction"] == each["certified_label"]) & (each["certified_radius"] >= 0.02) for each in both
    ]
    row = rows["certified_accuracy[L2 0.02]"]
    assert row.difference == pytest.approx(100 * (proven[1].mean() - proven[0].mean()))
    assert row.interval is not None
    radius = rows["certified_radius"]
    assert records[0].certified is not None
    assert radius.reference == pytest.approx(records[0].certified.average_radius)
    assert radius.interval is not None
    other = records[1].model_copy(deep=True)
    assert other.certified is not None
    other.certified.sigma = 0.1
    with pytest.raises(RobustPruneError, match="sigma"):
        rp.compare(dense=[records[0]], candidates={"ticket": [other]})


def test_it_has_rows_and_columns(records: list[Record]) -> None:
    frame = records[0].to_frame()
    rows = frame[frame.group == "certification"]
    assert rows.metric.tolist() == ["certified_accuracy"] * 3 + ["abstained", "average_radius"]
    assert rows.epsilon.tolist()[:3] == [0, 0.02, 0.05]
    assert set(rows.n) == {30}
    row = flatten(records[0].model_dump())
    certified = records[0].certified
    assert certified is not None
    assert row["certified_l2_0_02"] == certified.at[1].accuracy
    assert row["certified_radius"] == certified.average_radius
    assert row["certified_abstained"] == certified.abstained
    assert "within L2 0.02" in records[0]._repr_html_()


def test_in_a_sweep_it_is_part_of_what_is_addressed_where_it_is_asked_for(few_digits: ImageData) -> None:
    with_it, _ = resolve_evaluation(rp.Evaluation(certify=ASKED), few_digits)
    assert with_it["certify"] == {
        "sigma": 0.05,
        "n": 60,
        "n0": 20,
        "alpha": 0.05,
        "radii": [0, 0.02, 0.05],
        "limit": 30,
    }
    without, _ = resolve_evaluation(rp.Evaluation(), few_digits)
    assert with_it == {**without, "certify": with_it["certify"]}


TINY = ("evaluate", "--model", "resnet20:width=4", "--dataset", "digits", "--limit", "20")


def test_the_command_certifies(run: Run) -> None:
    found = run(*TINY, "--certify", "sigma=.1,n=20,n0=5,radii=0+.05,limit=12", "--json").json
    assert found["certified"]["n"] == 12
    assert found["certified"]["votes"] == 20
    assert [each["radius"] for each in found["certified"]["at"]] == [0, 0.05]
    said = run(*TINY, "--certify", "sigma=.1,n=20,n0=5", "--out", "record.json", "--resume").out
    assert "Certified accuracy on 20 images" in said
    assert sorted(path.name for path in Path().iterdir()) == ["record.json", "record.json.samples.npz"]


def test_the_command_says_what_is_wrong(run: Run) -> None:
    check_failure(run(*TINY, "--certify", "0.25"), 2, "with sigma")
    check_failure(run(*TINY, "--certify", "n=5"), 2, "with sigma")
    check_failure(run(*TINY, "--certify", "sigma=.1,m=5"), 1, "there is no setting 'm'")
    check_failure(run(*TINY, "--certify", "sigma=-1"), 1, "greater than 0")
    check_failure(run(*TINY, "--certify", "sigma=.1,limit=3"), 1, "classes")
