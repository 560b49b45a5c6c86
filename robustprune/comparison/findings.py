"""What a comparison found: a row for each candidate and metric, all of them as a table, and the answer in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import groupby
from typing import Any, Literal

from robustprune.comparison.difference import holm
from robustprune.comparison.failures import Failures
from robustprune.comparison.look import Look
from robustprune.comparison.metric import write_difference, write_interval, write_short, write_value
from robustprune.comparison.ranking import Ranking, rank_blocks
from robustprune.comparison.verdict import VERDICTS, Verdict, is_within, write_margin, write_tolerances
from robustprune.metrics.pooled import Heterogeneity
from robustprune.metrics.spreads import Spreads
from robustprune.records.tidy import GROUPS, Group
from robustprune.runtime.html import html_paragraphs, html_table

_ROBUST = ("robustness", "corruptions", "shift", "ood")
_MOST = 3  # candidates that a sentence can hold
_OF_SETTINGS = (
    "One more setting: what an equal comparison would find there.",
    "τ: standard deviation between settings; I²: its share of their variance.",
)


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


@dataclass(frozen=True)
class Comparison:
    """Candidates against a dense network, or one another.

    Attributes:
        against: What all others are compared with; None where each is compared with each.
        tolerances: ξ by kind of metric: percentage points, or ``std`` for one standard deviation of the dense network
            over its seeds.
        confidence: Of the intervals.
        rows: One per pair and metric.
        headline: One sentence that answers whether candidates win.
        warnings: What a reader has to know.
        failures: How many trainings of each group failed.
        look: Which one it is of several, where further seeds are trained until verdicts are decided.
        settings: Where the networks are of several image sets or architectures, what was found in each; ``rows`` are
            then of the mean over them.
    """

    against: str | None
    tolerances: dict[str, float | str]
    confidence: float
    rows: tuple[ComparisonRow, ...]
    headline: str
    warnings: tuple[str, ...] = ()
    failures: tuple[Failures, ...] = ()
    look: Look | None = None
    settings: Mapping[str, Comparison] = field(default_factory=dict)

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of the candidates."""
        return tuple(dict.fromkeys(row.candidate for row in self.rows))

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """What is compared: the names of a candidate, and of what it is compared with."""
        return tuple(dict.fromkeys((row.candidate, row.against) for row in self.rows))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        rankings = [asdict(each) for each in self.rankings]
        return asdict(self) | {"rows": [asdict(row) for row in self.rows], "rankings": rankings}

    @cached_property
    def rankings(self) -> tuple[Ranking, ...]:
        """Mean ranks in each metric over settings, else over seeds; of three kinds of networks and blocks or more."""
        found = []
        for first in {row.metric: row for row in self.rows if row.group != "cost"}.values():
            blocks = {name: each._means(first.metric) for name, each in self.settings.items()}
            ranking = rank_blocks(
                first.metric,
                first.label,
                "settings" if self.settings else "seeds",
                blocks or self._by_seed(first.metric),
                higher_is_better=first.higher_is_better,
                confidence=self.confidence,
            )
            found += [] if ranking is None else [ranking]
        return tuple(found)

    def _means(self, metric: str) -> dict[str, float]:
        """Return the value of each kind of network."""
        rows = [row for row in self.rows if row.metric == metric]
        values = {
            name: value for row in rows for name, value in ((row.against, row.reference), (row.candidate, row.value))
        }
        return {name: value for name, value in values.items() if value is not None}

    def _by_seed(self, metric: str) -> dict[str, dict[str, float]]:
        """Return the values of all kinds of networks for each seed; none where not all have the same seeds."""
        rows = [row for row in self.rows if row.metric == metric]
        found: dict[str, dict[str, float]] = {}
        for row in rows if all(row.seeds_paired and row.per_seed for row in rows) else ():
            for each in row.per_seed:
                own = {row.against: each["reference"], row.candidate: each["value"]}
                found.setdefault(str(each["seed"]), {}).update(own)
        return found

    def table(self, candidate: str, against: str) -> tuple[list[str], list[list[str]]]:
        """Return headings and lines of a table of one of the `pairs`; `notes` belong to it."""
        lines = []
        for group, members in groupby(self._of(candidate, against), key=lambda row: row.group):
            lines.append([GROUPS[group], "", "", "", ""])
            for row in members:
                lines.append([f"  {row.label}", *row_cells(row)])
                lines += self._beneath(row)
        spread = f">difference [{100 * self.confidence:.4g} %]"
        return ["metric", f">{against}", spread, ">p", "verdict"], lines

    def notes(self, candidate: str, against: str) -> list[str]:
        """Return why rows of one of the `pairs` have no verdict, costs apart, and which is likely to be ahead."""
        reasons: dict[str, list[str]] = {}
        chances = []
        for row in self._of(candidate, against):
            if row.reason and row.saved_percent is None:
                reasons.setdefault(row.reason, []).append(row.label)
            if row.metric == "accuracy" and row.chance_interval is not None:
                low, high = (f"{100 * end:.0f}" for end in row.chance_interval)
                share = f"{100 * (row.chance_better or 0):.0f} % [{low}, {high}]"
                chances = [f"Chance that one {candidate} network is more accurate than one {against}: {share}."]
        if self.settings:
            chances += [*_OF_SETTINGS, *self._chance_agreements(candidate, against)]
        return chances + [f"{'; '.join(labels)}: {reason}" for reason, labels in reasons.items()]

    def _chance_agreements(self, *pair: str) -> Iterator[str]:
        """Yield which rows have an interval narrower than seeds and images allow, and what their verdicts rest on."""
        found = []
        for row in self._of(*pair):
            if row.heterogeneity is not None and row.interval is not None:
                own = row.heterogeneity.within.interval(self.confidence)
                if own[1] - own[0] > row.interval[1] - row.interval[0]:
                    found.append(f"{row.label} {write_interval(own, row.unit)}")
        if found:
            yield "Settings agree more closely than their seeds and images let expect. Verdicts rest"
            yield f"on what these leave: {', '.join(found)}."

    def title(self, candidate: str, against: str) -> str:
        """Return what the table of one of the `pairs` shows."""
        return f"{candidate} against {against}"

    @property
    def tolerance_text(self) -> str:
        """The tolerances of what was judged, for readers."""
        return write_tolerances(self.tolerances, [row.metric for row in self.rows if row.verdict])

    def _repr_html_(self) -> str:
        said = [self.headline, *(f"Warning: {warning}" for warning in self.warnings)]
        tables = [html_table(self.title(*each), *self.table(*each), self.notes(*each)) for each in self.pairs]
        tables += [html_table(each.title, *each.table(), each.notes()) for each in self.rankings[:1]]
        return html_paragraphs(said) + "".join(tables)

    def _beneath(self, row: ComparisonRow) -> Iterator[list[str]]:
        """Yield lines on how a difference comes out in each setting, and in one more."""
        spread = row.heterogeneity
        if spread is None:
            return
        for name, found in self.settings.items():
            for own in found.rows:
                if (own.candidate, own.against, own.metric) == (row.candidate, row.against, row.metric):
                    reference, difference, _, verdict = row_cells(own)
                    yield [f"    {name}", reference, difference, "", verdict]
        expected = "" if spread.prediction is None else write_interval(spread.prediction, row.unit)
        text = f"τ {write_value(spread.deviation, row.unit)}, I² {100 * spread.share:.0f} %"
        yield [f"    {'one more setting' if expected else 'between settings'}", "", expected, "", text]

    def _of(self, *pair: str) -> list[ComparisonRow]:
        return [row for row in self.rows if (row.candidate, row.against) == pair]


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


def write_headline(rows: Sequence[ComparisonRow], tolerance: float | str, failures: Mapping[str, Failures]) -> str:
    """Return the sentence: is a candidate as accurate, as robust, and cheaper?"""
    margin = write_margin(tolerance)
    pairs = list(dict.fromkeys((row.candidate, row.against) for row in rows))
    parts = [
        _about(pair[0], [row for row in rows if (row.candidate, row.against) == pair], margin, failures.get(pair[0]))
        for pair in pairs[:_MOST]
    ]
    text = "; ".join(parts)
    if len(pairs) > _MOST:
        text += f"; {len(pairs) - _MOST} more in the table"
    judged = [row for row in rows if row.verdict]
    if judged and any(row.statement == "networks" for row in judged):
        fewest = min(row.n_seeds for row in judged)
        seeds = f"{fewest} seed" + "s" * (fewest > 1)
        text = f"Of these networks ({seeds}, so not of the method): {text}"
    return text[0].upper() + text[1:] + "."


def _about(name: str, rows: Sequence[ComparisonRow], margin: str, failures: Failures | None) -> str:
    said = [accuracy_text(row, margin) for row in rows if row.metric == "accuracy" and row.verdict]
    verdicts = [row.verdict for row in rows if row.group in _ROBUST and row.verdict]
    if verdicts:
        counts = [f"{verdict} in {verdicts.count(verdict)}" for verdict in VERDICTS if verdict in verdicts]
        measures = f"of {len(verdicts)} measures" if len(verdicts) > 1 else "measure"
        said.append(f"is {_join(counts)} {measures} of robustness")
    for row in rows:
        if row.metric == "macs" and row.saved_percent is not None:
            much = f"{abs(row.saved_percent):.1f} % {'fewer' if row.saved_percent > 0 else 'more'}"
            said.append(f"takes {'as many' if abs(row.saved_percent) < 0.05 else much} MACs")
    if not any(row.verdict for row in rows) and any(row.group != "cost" for row in rows):
        said.insert(0, "cannot be judged")
    elif any(row.metric == "accuracy" and row.verdict is None for row in rows):
        said.insert(0, "cannot be judged by its accuracy")
    if failures:
        said.insert(0, f"failed in {len(failures.seeds)} of {failures.n_networks} trainings")
    return f"“{name}” {_join(said)}" if said else f"the figures of “{name}” are in the table"


def _join(texts: Sequence[str]) -> str:
    return " and ".join([*([", ".join(texts[:-1])] if len(texts) > 1 else []), texts[-1]])


def accuracy_text(row: ComparisonRow, margin: str) -> str:
    """Return what a verdict says of a candidate's accuracy, as what follows its name."""
    assert row.interval is not None
    low, high = (write_difference(end, row.unit) for end in row.interval)
    figures = f"({write_difference(row.difference, row.unit)} pp, {low} … {high})"
    slightly = f" by less than {margin}" if row.verdict_text != row.verdict else ""
    return {
        "better": f"is more accurate than {row.against}{slightly} {figures}",
        "equivalent": f"is as accurate as {row.against} within {margin} {figures}",
        "no worse": f"is at most {margin} less accurate than {row.against} {figures}",
        "worse": f"is less accurate than {row.against} by more than {margin} {figures}",
        "undecided": f"may or may not be as accurate as {row.against} within {margin} {figures}",
    }[row.verdict or "undecided"]


def correct_p_values(rows: Sequence[ComparisonRow]) -> tuple[ComparisonRow, ...]:
    """Return rows with ``p_adjusted``, for all of them together."""
    tested = [place for place, row in enumerate(rows) if row.p_value is not None]
    adjusted = holm([rows[place].p_value or 0.0 for place in tested])
    found = dict(zip(tested, adjusted, strict=True))
    return tuple(replace(row, p_adjusted=found.get(place)) for place, row in enumerate(rows))
