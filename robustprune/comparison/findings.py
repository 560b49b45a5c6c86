"""What a comparison found: a row for each candidate and metric, all of them as a table, and the answer in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Literal

from robustprune.comparison.difference import VERDICTS, Verdict
from robustprune.comparison.metric import write_difference, write_short, write_value
from robustprune.comparison.sides import Network
from robustprune.metrics.seeds import LEAST_SEEDS
from robustprune.records.tidy import GROUPS, Group
from robustprune.runtime.html import html_paragraphs, html_table

_ROBUST = ("robustness", "corruptions", "shift", "ood")
_MOST = 3  # candidates that a sentence can hold


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

    def title(self, candidate: str) -> str:
        """Return what the table of a candidate shows."""
        margin = "one standard deviation of dense" if isinstance(self.tolerance, str) else f"{self.tolerance:g} pp"
        return f"{candidate} against {self.dense_name}, tolerance {margin}"

    def _repr_html_(self) -> str:
        said = [self.headline, *(f"Warning: {warning}" for warning in self.warnings)]
        tables = [html_table(self.title(each), *self.table(each), self.notes(each)) for each in self.candidates]
        return html_paragraphs(said) + "".join(tables)

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


def write_headline(rows: Sequence[ComparisonRow], tolerance: float | str) -> str:
    """Return the sentence: is a candidate as accurate, as robust, and cheaper?"""
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


def _about(name: str, rows: Sequence[ComparisonRow], margin: str) -> str:
    said = [_accuracy(row, margin) for row in rows if row.metric == "accuracy" and row.verdict]
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
    return f"“{name}” {_join(said)}" if said else f"the figures of “{name}” are in the table"


def _join(texts: Sequence[str]) -> str:
    return " and ".join([*([", ".join(texts[:-1])] if len(texts) > 1 else []), texts[-1]])


def _accuracy(row: ComparisonRow, margin: str) -> str:
    assert row.interval is not None
    low, high = (write_difference(end, row.unit) for end in row.interval)
    figures = f"({write_difference(row.difference, row.unit)} pp, {low} … {high})"
    return {
        "better": f"is more accurate than dense {figures}",
        "winning": f"is as accurate as dense within {margin} {figures}",
        "losing": f"is less accurate than dense by more than {margin} {figures}",
        "undecided": f"may or may not be as accurate as dense within {margin} {figures}",
    }[row.verdict or "undecided"]


def find_caveats(
    dense: Sequence[Network], candidates: Mapping[str, Sequence[Network]], rows: Sequence[ComparisonRow]
) -> Iterator[str]:
    """Yield a sentence for each thing that keeps a comparison from being what one may take it for."""
    for name, own in candidates.items():
        fewest = min(len(own), len(dense))
        if fewest < LEAST_SEEDS:
            yield (
                f"{name}: from {fewest} seed{'s' * (fewest > 1)} verdicts speak of these networks, not of the method; "
                f"{LEAST_SEEDS} seeds are the fewest for that"
            )
        if not any(row.seeds_paired for row in rows if row.candidate == name):
            yield (
                f"{name}: its seeds ({_seeds(own)}) are not those of the dense network ({_seeds(dense)}), so networks "
                "are compared as two groups and not in pairs"
            )
        for setting, one, other in _differing_recipe(dense, own):
            yield f"{name}: trained with {setting.replace('_', ' ')} {other}, the dense network with {one}"
    invalid = [f"{row.candidate}: {row.label}" for row in rows if row.reason and row.reason.startswith("invalid")]
    if invalid:
        yield f"numbers that failed a check are not compared ({'; '.join(invalid)})"


def _differing_recipe(dense: Sequence[Network], own: Sequence[Network]) -> Iterator[tuple[str, str, str]]:
    """Yield settings of training that differ, with both sides' values, where all networks know theirs."""
    sides = [[network.record.model.training.get("recipe") or {} for network in side] for side in (dense, own)]
    recipes = [*sides[0], *sides[1]]
    for name in dict.fromkeys(name for recipe in recipes for name in recipe) if all(recipes) else ():
        one, other = (", ".join(sorted({str(recipe.get(name, "the default")) for recipe in side})) for side in sides)
        if one != other:
            yield name, one, other


def _seeds(networks: Sequence[Network]) -> str:
    return ", ".join("unknown" if network.seed is None else str(network.seed) for network in networks)
