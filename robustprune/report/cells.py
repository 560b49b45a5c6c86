"""Cells of the tables of the page: text, the number that a cell is sorted by, and verdicts as badges."""

from __future__ import annotations

from dataclasses import dataclass

from robustprune.comparison import ComparisonRow
from robustprune.comparison.metric import POINTS, write_short

NONE = "–"
_UNITS = {"MACs": (1.0, ""), "kWh": (1e3, "Wh"), "kg": (1e3, "g"), "bytes": (1e-6, "MB")}
"""Unit of a row → factor to the unit that it is written in, and that unit."""


@dataclass(frozen=True)
class Cell:
    """Text, the number to sort by in place of the text, and whether to align it as a number."""

    text: str
    sort: float | None = None
    number: bool = False


@dataclass(frozen=True)
class Badge:
    """A verdict of a comparison or of a check, as a sign and a word, so that its colour tells nothing new.

    ``kind`` is a class of the page's style sheet.
    """

    kind: str
    word: str
    sign: str


_SIGNS = {
    "better": "▲",
    "equivalent": "=",
    "no worse": "●",
    "undecided": "○",
    "worse": "▼",
    "none": "–",
    "invalid": "✕",
    "pass": "✓",
    "info": "i",
    "warn": "!",
    "fail": "✕",
}


def badge(kind: str, word: str | None = None) -> Badge:
    """Return the badge of a verdict, or of ``none`` or ``invalid`` in its place."""
    return Badge(kind.replace(" ", "-"), word or kind, _SIGNS[kind])


def verdict_badge(row: ComparisonRow) -> Badge:
    """Return the badge of a row: its verdict, the cost relative to the reference, or that it is not compared."""
    if row.verdict is not None:
        return badge(row.verdict, row.verdict_text)
    if row.reason and row.reason.startswith("invalid"):
        return badge("invalid")
    if row.saved_percent is None:
        return badge("none", "not compared")
    less = row.saved_percent >= 0
    return Badge("none", f"{abs(row.saved_percent):.1f} % {'less' if less else 'more'}", "↓" if less else "↑")


def value_text(value: float | None, unit: str) -> str:
    """Return a value with its unit; shares in percent."""
    if value is None:
        return NONE
    if unit == POINTS:
        return f"{value:.1f} %"
    factor, name = _UNITS.get(unit, (1.0, unit))
    return f"{write_short(factor * value)} {name}".rstrip()


def difference_text(row: ComparisonRow) -> str:
    """Return the difference of a row, empty where there is none."""
    if row.difference is None:
        return ""
    return signed(row.difference, row.unit) + (" pp" if row.unit == POINTS else "")


def interval_text(row: ComparisonRow) -> str:
    """Return the interval of a row's difference, in the unit of the difference."""
    return NONE if row.interval is None else " … ".join(signed(end, row.unit) for end in row.interval)


def p_text(value: float | None) -> str:
    """Return a p-value."""
    if value is None:
        return NONE
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def signed(value: float, unit: str) -> str:
    """Return a difference with its sign, in its unit where that is not percentage points."""
    size = f"{abs(value):.1f}" if unit == POINTS else value_text(abs(value), unit)
    return f"{'−' if value < 0 else '+'}{size}"
