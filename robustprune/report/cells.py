"""What stands in a cell of the page: text for readers, the number it is sorted by, and verdicts as badges."""

from __future__ import annotations

from dataclasses import dataclass

from robustprune.comparison import ComparisonRow
from robustprune.comparison.metric import POINTS

NONE = "–"
_SCALED = {"bytes": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")), "": ((1e9, "G"), (1e6, "M"), (1e3, "k"))}
_SCALED["MACs"] = _SCALED[""]
_SMALL = {"kWh": (1e3, "Wh"), "kg": (1e3, "g")}


@dataclass(frozen=True)
class Cell:
    """Text, the number that it is sorted by where that is not its text, and whether it is aligned as a number."""

    text: str
    sort: float | None = None
    number: bool = False


@dataclass(frozen=True)
class Badge:
    """A verdict, of a comparison or of a check: a sign and a word, so that nothing hangs on its colour."""

    kind: str
    word: str
    sign: str


_SIGNS = {
    "better": "▲",
    "winning": "●",
    "undecided": "○",
    "losing": "▼",
    "none": "–",
    "invalid": "✕",
    "pass": "✓",
    "info": "i",
    "warn": "!",
    "fail": "✕",
}


def badge(kind: str, word: str | None = None) -> Badge:
    """Return the badge of a verdict or of what stands in its place."""
    return Badge(kind, word or kind, _SIGNS[kind])


def verdict_badge(row: ComparisonRow) -> Badge:
    """Return the badge of a row: its verdict, what it saves, or that there is neither."""
    if row.verdict is not None:
        return badge(row.verdict)
    if row.reason and row.reason.startswith("invalid"):
        return badge("invalid")
    if row.saved_percent is None:
        return badge("none", "not compared")
    less = row.saved_percent >= 0
    return Badge("none", f"{abs(row.saved_percent):.1f} % {'less' if less else 'more'}", "↓" if less else "↑")


def value_text(value: float | None, unit: str) -> str:
    """Return a value with its unit, shares in percent."""
    if value is None:
        return NONE
    if unit == POINTS:
        return f"{value:.1f} %"
    number, name = _scaled(value, unit)
    return f"{_digits(number)} {name}".rstrip()


def difference_text(row: ComparisonRow) -> str:
    """Return the difference of a row to dense."""
    if row.difference is None:
        return ""
    if row.unit == POINTS:
        return f"{_signed(row.difference)} pp"
    return f"{_sign(row.difference)}{value_text(abs(row.difference), row.unit)}"


def interval_text(row: ComparisonRow) -> str:
    """Return the interval of a row's difference, in the unit of the difference."""
    if row.interval is None:
        return NONE
    if row.unit == POINTS:
        return " … ".join(map(_signed, row.interval))
    return " … ".join(f"{_sign(end)}{value_text(abs(end), row.unit)}" for end in row.interval)


def p_text(value: float | None) -> str:
    """Return a p-value."""
    if value is None:
        return NONE
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _scaled(value: float, unit: str) -> tuple[float, str]:
    factor, name = _SMALL.get(unit, (1.0, unit))
    if name == "MACs":
        name = ""
    for scale, prefix in _SCALED.get(unit, ()):
        if abs(value) >= scale:
            return value / scale, prefix
    return value * factor, name


def _digits(value: float) -> str:
    """Return three significant digits without an exponent where that is readable."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return f"{value:,.{max(0, 2 - _magnitude(value))}f}"
    return f"{value:.3g}"


def _magnitude(value: float) -> int:
    return 0 if value == 0 else int(f"{value:e}".partition("e")[2])


def _signed(value: float) -> str:
    return f"{_sign(value)}{abs(value):.1f}"


def _sign(value: float) -> str:
    return "−" if value < 0 else "+"
