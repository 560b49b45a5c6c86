"""The answer in sentences, and what limits it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from synthetic_records import make_record

from robustprune.comparison import Comparison, ComparisonRow, compare
from robustprune.comparison.main_metrics import main_metrics
from robustprune.comparison.summary import write_estimate, write_verdict
from robustprune.comparison.verdict import Verdict
from robustprune.records import Record
from robustprune.records.schema import SampledEntry

NUMBER = re.compile(r"-?\d+\.\d+")


def records(kind: str, seeds: range = range(3), n: int = 200) -> list[Record]:
    return [make_record(kind=kind, seed=seed, n=n, detectors=("energy",)) for seed in seeds]


def row(found: Comparison, metric: str) -> ComparisonRow:
    return next(each for each in found.rows if each.metric == metric)


@pytest.fixture(scope="module")
def whole() -> Comparison:
    return compare(records("dense"), {"layer": records("layer"), "filter": records("filter")})


def test_a_sentence_has_the_numbers_of_its_row(whole: Comparison) -> None:
    for each in whole.rows:
        if each.unit == "pp" and each.interval is not None and each.difference is not None:
            signed = [float(text) for text in NUMBER.findall(write_estimate(each).replace("−", "-"))]
            assert signed == pytest.approx([each.difference, *each.interval], abs=0.051)
            size, low, high = map(float, NUMBER.findall(write_estimate(each, signed=False).replace("−", "-")))
            assert size == pytest.approx(abs(each.difference), abs=0.051)
            assert low <= size + 0.1
            assert size <= high + 0.1


@pytest.mark.parametrize(
    ("verdict", "difference", "interval", "said"),
    [
        ("better", 1.2, (0.3, 2.1), "clean accuracy better by 1.2 pp [0.3, 2.1]"),
        ("worse", -2.4, (-3.5, -1.3), "clean accuracy worse by 2.4 pp [1.3, 3.5]"),
        ("equivalent", -0.04, (-0.9, 0.8), "clean accuracy equivalent (+0.0 pp [−0.9, +0.8])"),
        ("undecided", -0.06, (-0.13, 0.01), "clean accuracy undecided (−0.06 pp [−0.13, +0.01])"),
        ("equivalent", -0.6, (-0.9, -0.3), "clean accuracy equivalent, a significant loss (−0.6 pp [−0.9, −0.3])"),
        ("undecided", -1.2, (-2.0, -0.4), "clean accuracy undecided, a significant loss (−1.2 pp [−2.0, −0.4])"),
    ],
)
def test_verdicts_in_words(
    whole: Comparison, verdict: Verdict, difference: float, interval: tuple[float, float], said: str
) -> None:
    given = replace(row(whole, "accuracy"), verdict=verdict, difference=difference, interval=interval, bounds=None)
    assert write_verdict(given) == said


def test_a_sentence_names_the_customary_budget_and_the_one_that_is_closest_to_half() -> None:
    attacks = (("fgsm", 2 / 255), ("fgsm", 4 / 255), ("fgsm", 8 / 255), ("pgd", 8 / 255), ("pgd", 0.1))
    dense, layer = make_record(attacks=attacks), make_record(kind="layer", attacks=attacks)
    for record in (dense, layer):
        for entry, share in zip(record.attacks, (0.9, 0.55, 0.2, 0.1, 0.0), strict=True):
            entry.robust_accuracy = share
    (sentence,) = compare(dense, {"layer": layer}).summary
    assert re.findall(r"robust accuracy \((.*?)\)", sentence) == ["pgd L∞ 8/255", "fgsm L∞ 4/255"]


def of_set(name: str, candidate: str, difference: float) -> ComparisonRow:
    key, label = f"auroc[energy {name}]", f"energy, {name}"
    about = {"group": "ood", "unit": "pp", "higher_is_better": True, "reference": 90.0}
    return ComparisonRow(candidate, "dense", key, label, **about, difference=difference)  # type: ignore[arg-type]


def test_all_of_two_sets_and_the_worst_and_best_of_more_are_named_for_each_candidate() -> None:
    found = {"layer": {"a": 1.0, "b": -17.0, "c": 0.2}, "filter": {"a": -3.0, "b": 0.0, "c": 2.0}}
    rows = [of_set(name, candidate, each) for candidate, own in found.items() for name, each in own.items()]

    def chosen(rows: list[ComparisonRow], own: list[ComparisonRow]) -> list[str]:
        return [row.label for row in main_metrics(rows, own)]

    assert chosen(rows, rows[:3]) == ["energy, b", "energy, a"]
    assert chosen(rows, rows[3:]) == ["energy, a", "energy, c"]
    assert chosen(rows, []) == ["energy, b", "energy, c"]
    two = [row for row in rows if "c" not in row.metric[-2:]]
    assert chosen(two, two[:2]) == ["energy, a", "energy, b"]


def test_what_a_second_phase_spared_is_a_limitation() -> None:
    dense, layer = records("dense"), records("layer")
    assert not any("sample=all" in each for each in compare(dense, {"layer": layer}).limitations)
    entry = layer[1].attacks[0]
    for low in (0.01, 0.03):
        interval = (entry.robust_accuracy - low, entry.robust_accuracy)
        entry.sampled = SampledEntry(survivors=90, sampled=40, broken=0, interval=interval, passes=9)
        (said,) = (each for each in compare(dense, {"layer": layer}).limitations if "sample=all" in each)
        assert f"{entry.name} L∞" in said
        assert f"up to {100 * low:.1f} pp" in said
    entry.sampled = SampledEntry(survivors=40, sampled=40, broken=0, interval=(entry.robust_accuracy,) * 2, passes=9)
    assert not any("sample=all" in each for each in compare(dense, {"layer": layer}).limitations)


def test_a_limitation_stands_once_with_the_candidates_that_it_concerns() -> None:
    dense = records("dense", range(3))
    found = compare(dense, {name: records(name, range(1)) for name in ("layer", "filter")})
    few = [each for each in found.limitations if "only" in each]
    assert few == [
        "All candidates: only 1 seed: verdicts hold for these networks, not for the method, for which 3 seeds or more "
        "are needed"
    ]
    mixed = compare(dense, {"layer": records("layer", range(1)), "filter": records("filter")})
    assert sum(each.startswith("layer: only 1 seed") for each in mixed.limitations) == 1


@pytest.mark.parametrize("n", [40, 4000])
def test_a_sample_is_small_where_no_difference_could_be_equivalent(n: int) -> None:
    found = compare(records("dense", n=n), {"layer": records("layer", n=n)})
    low, high = row(found, "accuracy").bounds or (0.0, 0.0)
    assert any(f"{n:,} images" in each for each in found.limitations) == (high - low >= 2.0)
    assert (high - low >= 2.0) == (n == 40)
