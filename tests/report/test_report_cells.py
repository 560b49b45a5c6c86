from __future__ import annotations

from typing import Any

import pytest

from robustprune.comparison import ComparisonRow
from robustprune.report.cells import difference_text, interval_text, p_text, value_text, verdict_badge


def row(**facts: Any) -> ComparisonRow:
    given = {
        "candidate": "layer",
        "against": "dense",
        "metric": "m",
        "label": "m",
        "group": "cost",
        "unit": "pp",
    } | facts
    return ComparisonRow(**{"higher_is_better": True, **given})


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (98.886, "pp", "98.9 %"),
        (None, "pp", "–"),
        (4_302_464, "MACs", "4.302 M"),
        (466_618, "", "466.6 k"),
        (950, "MACs", "950"),
        (21_740_000, "bytes", "21.74 MB"),
        (4.19e-5, "kWh", "0.042 Wh"),
        (1.5e-5, "kg", "0.015 g"),
        (0.125, "nats", "0.125 nats"),
        (0.02796, "", "0.028"),
        (0.0, "", "0"),
        (11.9, "s", "11.9 s"),
        (1234.6, "s", "1235 s"),
        (1.5e-9, "kg", "1.5e-06 g"),
    ],
)
def test_values(value: float | None, unit: str, text: str) -> None:
    assert value_text(value, unit) == text


def test_differences_have_a_sign_and_a_unit() -> None:
    found = row(difference=-0.84, interval=(-3.12, 1.44))
    assert difference_text(found) == "−0.8 pp"
    assert interval_text(found) == "−3.1 … +1.4"
    cheaper = row(unit="MACs", difference=-1_179_648.0, interval=(-1.2e6, -1.1e6))
    assert difference_text(cheaper) == "−1.18 M"
    assert interval_text(cheaper) == "−1.2 M … −1.1 M"
    assert (difference_text(row()), interval_text(row())) == ("", "–")


def test_p_values() -> None:
    assert [p_text(value) for value in (None, 1.0, 0.0404, 0.001, 0.0002)] == [
        "–",
        "1.000",
        "0.040",
        "0.001",
        "< 0.001",
    ]


@pytest.mark.parametrize(
    ("facts", "kind", "word"),
    [
        ({"verdict": "worse"}, "worse", "worse"),
        ({"verdict": "no worse", "tolerance": 1.0, "bounds": (-0.9, 2.0)}, "no-worse", "no worse"),
        ({"verdict": "better", "tolerance": 1.0, "bounds": (0.2, 2.0)}, "better", "better"),
        ({"verdict": "better", "tolerance": 1.0, "bounds": (0.2, 0.9)}, "better", "better, < ξ"),
        ({"verdict": "equivalent", "tolerance": 1.0, "interval": (-0.9, -0.1)}, "equivalent", "equivalent, loss"),
        ({"verdict": "undecided", "interval": (0.1, 2), "higher_is_better": False}, "undecided", "undecided, loss"),
        ({"verdict": "undecided", "interval": (0.1, 2)}, "undecided", "undecided"),
        ({"saved_percent": 27.42}, "none", "27.4 % less"),
        ({"saved_percent": -3.0}, "none", "3.0 % more"),
        ({"reason": "invalid for dense: failed check: large budget"}, "invalid", "invalid"),
        ({"reason": "no outcomes per sample"}, "none", "not compared"),
    ],
)
def test_badges_say_in_words_what_they_mean(facts: dict[str, Any], kind: str, word: str) -> None:
    found = verdict_badge(row(**facts))
    assert (found.kind, found.word) == (kind, word)
    assert found.sign
