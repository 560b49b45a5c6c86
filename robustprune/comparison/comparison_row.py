"""One row of a comparison: one metric of one candidate against the networks that it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from robustprune.comparison.difference import holm
from robustprune.comparison.metric import write_difference, write_interval, write_short, write_value
from robustprune.comparison.verdict import Verdict, is_within
from robustprune.metrics.pooled import Heterogeneity
from robustprune.metrics.spreads import Spreads
from robustprune.records.tidy import Group


@dataclass(frozen=True)
class ComparisonRow:
    """One metric of one candidate against the dense network, or others.

    Attributes:
        candidate: Its name.
        against: Name of the networks that it is compared with.
        metric: Stable key, such as ``accuracy`` or ``robust_accuracy[pgd Linf 0.0314]``.
        label: For readers.
        group: What the metric belongs to.
        unit: Of the difference; ``pp`` for shares, whose values are in percent.
        higher_is_better: Which direction is good.
        over_seeds: What values and differences are of the seeds: their mean, or where trainings failed their
            interquartile mean.
        reference: Mean over the networks compared with; None where it means nothing or is not there.
        value: Mean over the candidate's.
        difference: Of the candidate's mean to the reference.
        interval: Of the difference.
        bounds: Lower and upper bound of the difference that each hold with the confidence of the interval; so they are
            an interval of less, 90 % where that has 95 %.
        standard_error: Of the difference.
        freedom: Degrees of freedom of the standard error; 1e9 stands for as many as one likes.
        p_value: Of no difference.
        p_equivalent: Of a difference of ``tolerance`` or more to either side (two one-sided tests).
        p_adjusted: The same, corrected for all rows of the comparison (Holm).
        saved_percent: Of a cost, how much less than the reference.
        chance_better: How likely one network of the candidate's is better than one of the reference, of the same seed
            where they are paired; on these images, from three seeds on.
        chance_interval: Of that.
        tolerance: ξ that the verdict was given with, in ``unit``.
        n_seeds: Networks on the side that has fewer.
        n_samples: Samples behind each network's value.
        paired: Whether samples were compared one by one.
        seeds_paired: Whether networks were compared in pairs of one seed.
        statement: What difference and interval speak of: the ``method``, these ``networks``, or the mean over
            ``settings``.
        heterogeneity: How far settings differ, of a difference over several.
        verdict: What is shown of the difference, see :func:`robustprune.comparison.verdict.judge`; None where there is
            a reason.
        reason: Why there is no verdict.
        spreads: What the difference varies with, from three seeds on; None where trainings failed.
        per_seed: ``seed, reference, value, difference``, and of right and wrong answers ``b`` (samples that only the
            reference has right), ``c`` (only the candidate) and ``p`` (McNemar's test, exact).
    """

    candidate: str
    against: str
    metric: str
    label: str
    group: Group
    unit: str
    higher_is_better: bool
    over_seeds: Literal["mean", "interquartile mean"] = "mean"
    reference: float | None = None
    value: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    bounds: tuple[float, float] | None = None
    standard_error: float | None = None
    freedom: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    p_equivalent: float | None = None
    saved_percent: float | None = None
    chance_better: float | None = None
    chance_interval: tuple[float, float] | None = None
    tolerance: float | None = None
    n_seeds: int = 0
    n_samples: int | None = None
    paired: bool = False
    seeds_paired: bool = False
    statement: Literal["method", "networks", "settings"] = "networks"
    heterogeneity: Heterogeneity | None = None
    verdict: Verdict | None = None
    reason: str | None = None
    spreads: Spreads | None = None
    per_seed: tuple[dict[str, Any], ...] = ()

    @property
    def verdict_text(self) -> str | None:
        """The verdict for readers; of a candidate that is better, also whether by less than the tolerance."""
        is_slight = self.verdict == "better" and self.bounds is not None and is_within(self.bounds, self.tolerance or 0)
        return "better, < ξ" if is_slight else self.verdict


def row_cells(row: ComparisonRow) -> list[str]:
    """Return the cells of a row: what it is compared with, the difference, its p-value, and the verdict."""
    p_value = "" if row.p_adjusted is None else f"{row.p_adjusted:.3f}" if row.p_adjusted >= 0.001 else "<0.001"
    difference = write_difference(row.difference, row.unit)
    verdict = row.verdict_text or "–"
    if row.interval is not None and row.saved_percent is not None:
        # As wide on either side; both ends of small figures would not fit on a terminal.
        difference += f" ± {write_short((row.interval[1] - row.interval[0]) / 2)}"
    elif row.interval is not None:
        difference += f" {write_interval(row.interval, row.unit)}"
    if row.saved_percent is not None:
        verdict = f"{abs(row.saved_percent):.1f} % {'less' if row.saved_percent >= 0 else 'more'}"
    return [write_value(row.reference, row.unit), difference, p_value, verdict]


def correct_p_values(rows: Sequence[ComparisonRow]) -> tuple[ComparisonRow, ...]:
    """Return rows with ``p_adjusted``, for all of them together."""
    tested = [place for place, row in enumerate(rows) if row.p_value is not None]
    adjusted = holm([rows[place].p_value or 0.0 for place in tested])
    found = dict(zip(tested, adjusted, strict=True))
    return tuple(replace(row, p_adjusted=found.get(place)) for place, row in enumerate(rows))
