"""One sentence that answers the question: is a candidate as accurate, as robust, and cheaper?"""

from __future__ import annotations

from collections.abc import Sequence

from robustprune.comparison.result import Row, write_difference
from robustprune.comparison.verdict import VERDICTS

_ROBUST = ("robustness", "corruptions", "shift", "ood")
_MOST = 3  # candidates that a sentence can hold


def write_headline(rows: Sequence[Row], tolerance: float | str) -> str:
    """Return the sentence for the rows of a comparison."""
    margin = "one standard deviation" if isinstance(tolerance, str) else f"{tolerance:g} pp"
    candidates = list(dict.fromkeys(row.candidate for row in rows))
    parts = [_about(name, [row for row in rows if row.candidate == name], margin) for name in candidates[:_MOST]]
    text = "; ".join(parts)
    if len(candidates) > _MOST:
        text += f"; {len(candidates) - _MOST} more in the table"
    judged = [row for row in rows if row.verdict]
    if judged and any(row.statement == "networks" for row in judged):
        fewest = min(row.n_seeds for row in judged)
        seeds = f"{fewest} seed" + "s" * (fewest > 1)
        text = f"Of these networks ({seeds}, so not of the method): {text}"
    return text[0].upper() + text[1:] + "."


def _about(name: str, rows: Sequence[Row], margin: str) -> str:
    said = [_accuracy(row, margin) for row in rows if row.metric == "accuracy" and row.verdict]
    verdicts = [row.verdict for row in rows if row.group in _ROBUST and row.verdict]
    if verdicts:
        counts = [f"{verdict} in {verdicts.count(verdict)}" for verdict in VERDICTS if verdict in verdicts]
        measures = f"of {len(verdicts)} measures" if len(verdicts) > 1 else "measure"
        said.append(f"is {_join(counts)} {measures} of robustness")
    said += [_macs(row.saved_percent) for row in rows if row.metric == "macs" and row.saved_percent is not None]
    if not any(row.verdict for row in rows) and any(row.group != "cost" for row in rows):
        said.insert(0, "cannot be judged")
    elif any(row.metric == "accuracy" and row.verdict is None for row in rows):
        said.insert(0, "cannot be judged by its accuracy")
    return f"“{name}” {_join(said)}" if said else f"the figures of “{name}” are in the table"


def _join(texts: Sequence[str]) -> str:
    return " and ".join([*([", ".join(texts[:-1])] if len(texts) > 1 else []), texts[-1]])


def _macs(saved: float) -> str:
    if abs(saved) < 0.05:
        return "takes as many MACs"
    return f"takes {abs(saved):.1f} % {'fewer' if saved > 0 else 'more'} MACs"


def _accuracy(row: Row, margin: str) -> str:
    assert row.interval is not None
    low, high = (write_difference(end, row.unit) for end in row.interval)
    figures = f"({write_difference(row.difference, row.unit)} pp, {low} … {high})"
    return {
        "better": f"is more accurate than dense {figures}",
        "winning": f"is as accurate as dense within {margin} {figures}",
        "losing": f"is less accurate than dense by more than {margin} {figures}",
        "undecided": f"may or may not be as accurate as dense within {margin} {figures}",
    }[row.verdict or "undecided"]
