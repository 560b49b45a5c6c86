"""The answer in sentences, and what limits it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from synthetic_records import make_record

from robustprune.comparison import Comparison, ComparisonRow, compare
from robustprune.comparison.summary import write_estimate, write_verdict
from robustprune.comparison.verdict import Verdict
from robustprune.records import Record

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
    ],
)
def test_verdicts_in_words(
    whole: Comparison, verdict: Verdict, difference: float, interval: tuple[float, float], said: str
) -> None:
    given = replace(row(whole, "accuracy"), verdict=verdict, difference=difference, interval=interval, bounds=None)
    assert write_verdict(given) == said


def test_a_sentence_names_the_attack_that_is_closest_to_half() -> None:
    attacks = (("fgsm", 2 / 255), ("pgd", 8 / 255))
    dense, layer = make_record(attacks=attacks), make_record(kind="layer", attacks=attacks)
    for record in (dense, layer):
        record.attacks[0].robust_accuracy, record.attacks[1].robust_accuracy = 0.55, 0.0
    (sentence,) = compare(dense, {"layer": layer}).summary
    assert "robust accuracy (fgsm L∞ 2/255)" in sentence
    assert "pgd" not in sentence


def test_a_limitation_stands_once_with_the_candidates_that_it_concerns() -> None:
    dense = records("dense", range(3))
    found = compare(dense, {name: records(name, range(1)) for name in ("layer", "filter")})
    few = [each for each in found.limitations if "only" in each]
    assert few == [
        "All candidates: only 1 seed: verdicts hold for these networks, not for the method; that takes 3 seeds or more"
    ]
    mixed = compare(dense, {"layer": records("layer", range(1)), "filter": records("filter")})
    assert sum(each.startswith("layer: only 1 seed") for each in mixed.limitations) == 1


@pytest.mark.parametrize("n", [40, 4000])
def test_a_sample_is_small_where_no_difference_could_be_equivalent(n: int) -> None:
    found = compare(records("dense", n=n), {"layer": records("layer", n=n)})
    low, high = row(found, "accuracy").bounds or (0.0, 0.0)
    assert any(f"{n:,} images" in each for each in found.limitations) == (high - low >= 2.0)
    assert (high - low >= 2.0) == (n == 40)
