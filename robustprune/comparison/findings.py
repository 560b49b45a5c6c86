"""What a comparison found: a row for each candidate and metric, and all of them as a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Literal

from robustprune.comparison.difference import Verdict
from robustprune.comparison.metric import GROUPS, Group, write_difference, write_short, write_value


@dataclass(frozen=True)
class ComparisonRow:
    """One metric of one candidate against the dense network.

    Attributes:
        candidate: Its name.
        metric: Stable key, such as ``accuracy`` or ``robust_accuracy[pgd Linf 0.0314]``.
        label: For readers.
        group: What the metric belongs to.
        unit: Of the difference; ``pp`` for shares, whose values are in percent.
        higher_is_better: Which direction is good.
        dense: Mean over the dense networks; None where it means nothing or is not there.
        value: Mean over the candidate's.
        difference: Candidate − dense.
        interval: Of the difference.
        p_value: Of no difference.
        p_adjusted: The same, corrected for all rows of the comparison (Holm).
        saved_percent: Of a cost, how much less than the dense network's.
        tolerance: ξ that the verdict was given with, in ``unit``.
        n_seeds: Networks on the side that has fewer.
        n_samples: Samples behind each network's value.
        paired: Whether samples were compared one by one.
        seeds_paired: Whether networks were compared in pairs of one seed.
        statement: What difference and interval speak of: the ``method``, or these ``networks``.
        verdict: What eq. 1 says with confidence; None where there is a reason.
        reason: Why there is no verdict.
        per_seed: ``seed, dense, value, difference``, and of right and wrong answers ``b`` (samples that only the dense
            network has right), ``c`` (only the candidate) and ``p`` (McNemar's test, exact).
    """

    candidate: str
    metric: str
    label: str
    group: Group
    unit: str
    higher_is_better: bool
    dense: float | None = None
    value: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    saved_percent: float | None = None
    tolerance: float | None = None
    n_seeds: int = 0
    n_samples: int | None = None
    paired: bool = False
    seeds_paired: bool = False
    statement: Literal["method", "networks"] = "networks"
    verdict: Verdict | None = None
    reason: str | None = None
    per_seed: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Candidates against a dense network.

    Attributes:
        dense_name: What the dense networks are called.
        tolerance: ξ: percentage points, or ``std`` for one standard deviation of the dense network over its seeds.
        confidence: Of the intervals.
        rows: One per candidate and metric.
        headline: One sentence that answers whether candidates win.
        warnings: What a reader has to know.
    """

    dense_name: str
    tolerance: float | str
    confidence: float
    rows: tuple[ComparisonRow, ...]
    headline: str
    warnings: tuple[str, ...] = ()

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of the candidates."""
        return tuple(dict.fromkeys(row.candidate for row in self.rows))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self) | {"rows": [asdict(row) for row in self.rows]}

    def table(self, candidate: str) -> tuple[list[str], list[list[str]]]:
        """Return headings and lines of a table of one candidate; `notes` belong to it."""
        lines = []
        for group, members in groupby(self._of(candidate), key=lambda row: row.group):
            lines.append([GROUPS[group], "", "", "", ""])
            lines += [[f"  {row.label}", *_cells(row)] for row in members]
        spread = f">difference [{100 * self.confidence:.4g} %]"
        return ["metric", f">{self.dense_name}", spread, ">p", "verdict"], lines

    def notes(self, candidate: str) -> list[str]:
        """Return why rows of a candidate have no verdict, costs apart."""
        reasons: dict[str, list[str]] = {}
        for row in self._of(candidate):
            if row.reason and row.saved_percent is None:
                reasons.setdefault(row.reason, []).append(row.label)
        return [f"{'; '.join(labels)}: {reason}" for reason, labels in reasons.items()]

    def _of(self, candidate: str) -> list[ComparisonRow]:
        return [row for row in self.rows if row.candidate == candidate]


def _cells(row: ComparisonRow) -> list[str]:
    p_value = "" if row.p_adjusted is None else f"{row.p_adjusted:.3f}" if row.p_adjusted >= 0.001 else "<0.001"
    difference = write_difference(row.difference, row.unit)
    verdict: str = row.verdict or "–"
    if row.interval is not None and row.saved_percent is not None:
        # As wide on either side; both ends of small figures would not fit on a terminal.
        difference += f" ± {write_short((row.interval[1] - row.interval[0]) / 2)}"
    elif row.interval is not None:
        low, high = (write_difference(end, row.unit) for end in row.interval)
        difference += f" [{low}, {high}]"
    if row.saved_percent is not None:
        verdict = f"{abs(row.saved_percent):.1f} % {'less' if row.saved_percent >= 0 else 'more'}"
    return [write_value(row.dense, row.unit), difference, p_value, verdict]
