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
        candidate: Name of the candidate.
        against: Name of the networks that it is compared with (the reference).
        metric: Stable key of the metric, such as ``accuracy`` or ``robust_accuracy[pgd Linf 0.0314]``.
        label: Name of the metric for readers.
        group: Group of the metric.
        unit: Unit of the difference; ``pp`` for shares, whose values are in percent.
        higher_is_better: Whether higher values are better.
        over_seeds: How values and differences are averaged over the seeds; where trainings failed, by the
            interquartile mean.
        reference: Average of the reference; None where it is missing or invalid.
        value: Average of the candidate; None where it is missing or invalid.
        difference: Candidate − reference.
        interval: Confidence interval of the difference.
        bounds: One-sided lower and upper bound of the difference, each with the confidence of the interval. As an
            interval, they have 90 % where that has 95 %.
        standard_error: Standard error of the difference.
        freedom: Degrees of freedom of the standard error; 1e9 stands for infinitely many.
        p_value: p-value of the null hypothesis of no difference.
        p_adjusted: ``p_value`` after Holm's correction for all rows of the comparison.
        p_equivalent: p-value of the null hypothesis of a difference of at least ``tolerance`` (two one-sided tests);
            None where that is 0.
        saved_percent: Cost that the candidate saves, in percent of the reference.
        chance_better: Probability that one network of the candidate is better than one of the reference, of the same
            seed where they are paired; on these images, from three seeds on.
        chance_interval: Confidence interval of ``chance_better``.
        tolerance: ξ of the verdict, in ``unit``.
        n_seeds: Number of networks in the smaller of the two groups.
        n_samples: Number of samples behind each network's value.
        paired: Whether the networks were compared sample by sample.
        seeds_paired: Whether the networks were compared in pairs of one seed.
        statement: What difference and interval describe: the ``method``, these ``networks``, or the mean over
            ``settings``.
        heterogeneity: How far the settings differ, for a mean over settings.
        verdict: The verdict, see :func:`robustprune.comparison.verdict.judge`; None where there is a reason.
        reason: Why there is no verdict.
        spreads: The parts of the variance of the difference, from three seeds on; None where trainings failed.
        per_seed: ``seed, reference, value, difference``; for right and wrong answers also ``b`` (number of samples
            that only the reference has right), ``c`` (only the candidate) and ``p`` (McNemar's exact test).
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
        """The verdict for readers.

        ``better, < ξ`` where the candidate is better by less than the tolerance; ``equivalent, loss`` and
        ``undecided, loss`` where it is significantly worse, and by less than the tolerance or undecided how far.
        """
        is_slight = self.verdict == "better" and self.bounds is not None and is_within(self.bounds, self.tolerance or 0)
        return "better, < ξ" if is_slight else f"{self.verdict}, loss" if self.is_loss else self.verdict

    @property
    def is_loss(self) -> bool:
        """Whether the interval lies on the worse side of 0 though the verdict is not ``worse``."""
        if self.interval is None or self.verdict in (None, "worse"):
            return False
        return self.interval[1] < 0 if self.higher_is_better else self.interval[0] > 0


def row_cells(row: ComparisonRow) -> list[str]:
    """Return the cells of a row: the reference, the difference, its p-value, and the verdict."""
    p_value = "" if row.p_adjusted is None else f"{row.p_adjusted:.3f}" if row.p_adjusted >= 0.001 else "<0.001"
    difference = write_difference(row.difference, row.unit)
    verdict = row.verdict_text or "–"
    if row.interval is not None and row.saved_percent is not None:
        # Half the interval: both ends of a small cost would not fit on a terminal.
        difference += f" ± {write_short((row.interval[1] - row.interval[0]) / 2)}"
    elif row.interval is not None:
        difference += f" {write_interval(row.interval, row.unit)}"
    if row.saved_percent is not None:
        verdict = f"{abs(row.saved_percent):.1f} % {'less' if row.saved_percent >= 0 else 'more'}"
    return [write_value(row.reference, row.unit), difference, p_value, verdict]


def correct_p_values(rows: Sequence[ComparisonRow]) -> tuple[ComparisonRow, ...]:
    """Return the rows with ``p_adjusted``: Holm's correction for all of them together."""
    tested = [place for place, row in enumerate(rows) if row.p_value is not None]
    adjusted = holm([rows[place].p_value or 0.0 for place in tested])
    found = dict(zip(tested, adjusted, strict=True))
    return tuple(replace(row, p_adjusted=found.get(place)) for place, row in enumerate(rows))
