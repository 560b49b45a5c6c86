"""A record as a tidy frame and as a small table: the numbers of the record, and all of them."""

from __future__ import annotations

import json
import sys
from typing import Any
from xml.etree import ElementTree

import pandas
import pytest
from synthetic_records import make_record

import robustprune as rp
from robustprune.corruptions import HEADLINE
from robustprune.records import CheckResult, Record
from robustprune.sweep.query.record_rows import flatten


@pytest.fixture
def record() -> Record:
    made = make_record(
        attacks=(("fgsm", 8 / 255), ("pgd", 8 / 255)),
        corruptions=(*HEADLINE, "<b>"),
        detectors=("energy", "knn"),
        ood_sets=("svhn", "<i>noise</i>"),
        shift=("cifar10.2",),
    )
    assert made.corruptions is not None
    made.corruptions.unchanged = {"fog": [1, 2]}
    made.model.plan = {"method": "none", "criterion": None}
    made.attacks[1].valid = False
    made.attacks[1].checks.append(CheckResult(name="large budget", verdict="FAIL", detail="1 < 2 & 3"))
    return made


def only(frame: pandas.DataFrame, **where: Any) -> Any:
    """Return the one row of which this holds."""
    for name, value in where.items():
        frame = frame[frame[name] == value]
    (row,) = frame.to_dict("records")
    return row


def test_rows_are_the_numbers_of_the_record(record: Record) -> None:
    frame = record.to_frame()
    accuracy = only(frame, group="accuracy")
    assert (accuracy["value"], accuracy["n"]) == (record.clean.accuracy, record.n)
    assert (accuracy["low"], accuracy["high"]) == record.clean.interval
    fgsm = only(frame, group="robustness", name="fgsm")
    assert fgsm["value"] == record.attacks[0].robust_accuracy
    assert (fgsm["norm"], fgsm["epsilon"], fgsm["low"]) == ("linf", 8 / 255, record.attacks[0].interval[0])
    assert record.corruptions is not None
    snow = only(frame, metric="accuracy", name="snow", severity=3)
    assert snow["value"] == record.corruptions.table["snow"][2]
    assert only(frame, group="shift", metric="gap")["dataset"] == "cifar10.2"
    knn = only(frame, metric="auroc", name="knn", dataset="svhn")
    assert (knn["value"], knn["n"]) == (record.ood[0].detectors["knn"].auroc, 2 * record.n)
    assert only(frame, metric="macs")["value"] == record.model.macs
    assert only(frame, metric="memory")["value"] == record.model.training_memory


def test_what_is_not_valid_has_no_value(record: Record) -> None:
    frame = record.to_frame()
    pgd = only(frame, name="pgd")
    assert not pgd["valid"]
    assert pandas.isna(pgd["value"])
    assert pandas.isna(pgd["high"])
    assert frame.loc[~frame["valid"], "value"].isna().all()
    assert frame.loc[frame["valid"], "value"].notna().all()


def test_means_over_rows_are_the_columns_that_query_has(record: Record) -> None:
    frame = record.to_frame()
    row = flatten(json.loads(record.to_json()))
    seen = frame[(frame["group"] == "corruptions") & (frame["metric"] == "accuracy")]
    for name, mean in seen.groupby("name")["value"].mean().items():
        assert row[{"<b>": "b"}.get(str(name), str(name))] == pytest.approx(mean)
    assert row["fgsm_linf_8_255"] == only(frame, name="fgsm")["value"]
    assert row["pgd_linf_8_255"] is None
    assert row["svhn_knn_auroc"] == only(frame, metric="auroc", name="knn", dataset="svhn")["value"]
    assert row["corruption_mean_accuracy"] == only(frame, metric="mean_accuracy")["value"]


def test_frames_of_records_have_the_same_kinds_of_columns(record: Record) -> None:
    bare = make_record(attacks=())
    assert list(record.to_frame().dtypes) == list(bare.to_frame().dtypes)
    assert len(pandas.concat({"a": record.to_frame(), "b": bare.to_frame()})) > len(bare.to_frame())


def test_without_pandas_the_error_says_how_to_get_it(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(rp.MissingDependencyError, match="pip install pandas"):
        record.to_frame()


def test_the_table_is_small_and_escaped(record: Record) -> None:
    record.dataset = "<script>alert(1)</script>"
    record.model.removed = ["layer1.<b>"]
    page = ElementTree.fromstring(record._repr_html_())
    text = "".join(page.itertext())
    tags = {element.tag for element in page.iter()}
    assert tags == {"div", "table", "caption", "thead", "tbody", "tr", "th", "td", "p"}
    for said in ("<script>alert(1)</script>", "energy, <i>noise</i>", "layer1.<b>", "1 < 2 & 3", "pgd L∞ 8/255"):
        assert said in text
    rows = {row[0].text: [cell.text for cell in row] for row in page.iter("tr")}
    low, high = record.clean.interval
    assert rows["accuracy"][1:] == [f"{100 * record.clean.accuracy:.1f} %", f"{100 * low:.1f} – {100 * high:.1f} %"]
    assert rows["pgd L∞ 8/255"][1] == "not valid"
    assert len(rows) < 40
