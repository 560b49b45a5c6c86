"""The result of a comparison: its rows, as sentences and as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any

from robustprune.comparison.comparison_row import ComparisonRow, row_cells
from robustprune.comparison.failures import Failures
from robustprune.comparison.interim_look import InterimLook
from robustprune.comparison.main_metrics import explain_choice, main_metrics
from robustprune.comparison.metric import write_interval, write_value
from robustprune.comparison.ranking import Ranking, rank_blocks
from robustprune.comparison.summary import write_answer
from robustprune.comparison.verdict import write_tolerances
from robustprune.records.tidy import GROUPS
from robustprune.runtime.html import html_paragraphs, html_table

_OF_SETTINGS = (
    "New setting: prediction interval for the difference in a further setting.",
    "τ: standard deviation between settings; I²: share of the variance that is due to settings.",
)


@dataclass(frozen=True)
class Comparison:
    """Candidates compared with a dense network, or with one another.

    Attributes:
        against: What all candidates are compared with; None where each is compared with each.
        tolerances: ξ of each kind of metric: percentage points, or ``std`` for one standard deviation of the dense
            network over its seeds.
        confidence: Confidence level of the intervals.
        rows: One row for each pair and metric.
        limitations: What limits the verdicts, each in a sentence that names the candidates it concerns.
        failures: How many trainings of each group failed.
        look: The interim look, where further seeds are trained until the verdicts are decided.
        settings: Name → comparison of each setting, where the records are of several image sets or architectures;
            ``rows`` are then means over the settings.
    """

    against: str | None
    tolerances: dict[str, float | str]
    confidence: float
    rows: tuple[ComparisonRow, ...]
    limitations: tuple[str, ...] = ()
    failures: tuple[Failures, ...] = ()
    look: InterimLook | None = None
    settings: Mapping[str, Comparison] = field(default_factory=dict)

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of the candidates."""
        return tuple(dict.fromkeys(row.candidate for row in self.rows))

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The names of each candidate and of the networks that it is compared with."""
        return tuple(dict.fromkeys((row.candidate, row.against) for row in self.rows))

    @property
    def summary(self) -> tuple[str, ...]:
        """The answer: one sentence for each of `pairs`, and where there are several settings or looks, one on these."""
        means = [f"Means over {len(self.settings)} settings: {', '.join(self.settings)}."] if self.settings else []
        sentences = [f"{name}{self._seeds(name, of)} vs. {of}: {self.answer(name, of)}." for name, of in self.pairs]
        return (*means, *sentences, *([self.look.text] if self.look else []))

    def answer(self, candidate: str, against: str) -> str:
        """Return how one of the `pairs` compares in the main metrics, in a few words."""
        rows = {row.metric: row for row in self._of(candidate, against)}
        main = [row.metric for row in main_metrics(self.rows, list(rows.values()))]
        failures = [each for each in self.failures if each.group == candidate]
        return write_answer([rows[metric] for metric in main if metric in rows], *failures)

    @property
    def choice(self) -> str:
        """How the metrics of the answers were chosen, in a sentence; empty where there was no choice."""
        return explain_choice(self.rows)

    def _seeds(self, *pair: str) -> str:
        """Return the number of seeds in words, where there are too few to speak of the method."""
        counts = [row.n_seeds for row in self._of(*pair) if row.verdict and row.statement == "networks"]
        return f" ({min(counts)} seed{'s' if min(counts) > 1 else ''})" if counts else ""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        rankings = [asdict(each) for each in self.rankings]
        return asdict(self) | {
            "summary": self.summary,
            "rows": [asdict(row) for row in self.rows],
            "rankings": rankings,
        }

    @cached_property
    def rankings(self) -> tuple[Ranking, ...]:
        """Mean ranks in each metric over three or more settings, else seeds; empty for fewer than three kinds."""
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
        """Return kind of network → its value of a metric."""
        rows = [row for row in self.rows if row.metric == metric]
        values = {
            name: value for row in rows for name, value in ((row.against, row.reference), (row.candidate, row.value))
        }
        return {name: value for name, value in values.items() if value is not None}

    def _by_seed(self, metric: str) -> dict[str, dict[str, float]]:
        """Return seed → kind of network → value; empty where the kinds have different seeds."""
        rows = [row for row in self.rows if row.metric == metric]
        found: dict[str, dict[str, float]] = {}
        for row in rows if all(row.seeds_paired and row.per_seed for row in rows) else ():
            for each in row.per_seed:
                own = {row.against: each["reference"], row.candidate: each["value"]}
                found.setdefault(str(each["seed"]), {}).update(own)
        return found

    def table(self, candidate: str, against: str) -> tuple[list[str], list[list[str]]]:
        """Return the headings and lines of the table of one of the `pairs`; `notes` explain it."""
        lines = []
        for group, members in groupby(self._of(candidate, against), key=lambda row: row.group):
            lines.append([GROUPS[group], "", "", "", ""])
            for row in members:
                lines.append([f"  {row.label}", *row_cells(row)])
                lines += self._beneath(row)
        spread = f">difference [{100 * self.confidence:.4g} %]"
        return ["metric", f">{against}", spread, ">p", "verdict"], lines

    def notes(self, candidate: str, against: str) -> list[str]:
        """Return the notes to a table: which network is likely to be better, and why rows have no verdict."""
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
            chances += [*_OF_SETTINGS, *self._narrow_by_chance(candidate, against)]
        return chances + [f"{'; '.join(labels)}: {reason}" for reason, labels in reasons.items()]

    def _narrow_by_chance(self, *pair: str) -> Iterator[str]:
        """Yield in which rows settings agree by chance, so that the interval is that of seeds and images."""
        found = [
            row.label
            for row in self._of(*pair)
            if row.heterogeneity is not None and row.interval == row.heterogeneity.within.interval(self.confidence)
        ]
        if found:
            yield "Settings agree better than the noise of seeds and images lets one expect. This is chance,"
            yield f"so interval, p and verdict allow for that noise: {', '.join(found)}."

    def title(self, candidate: str, against: str) -> str:
        """Return the title of the table of one of the `pairs`."""
        return f"{candidate} vs. {against}"

    @property
    def tolerance_text(self) -> str:
        """The tolerances of the metrics that have a verdict, for readers."""
        return write_tolerances(self.tolerances, [row.metric for row in self.rows if row.verdict])

    def _repr_html_(self) -> str:
        said = [*self.summary, *(f"Limitation: {each}" for each in self.limitations)]
        tables = [html_table(self.title(*each), *self.table(*each), self.notes(*each)) for each in self.pairs]
        tables += [html_table(each.title, *each.table(), each.notes()) for each in self.rankings[:1]]
        return html_paragraphs(said) + "".join(tables)

    def _beneath(self, row: ComparisonRow) -> Iterator[list[str]]:
        """Yield lines on the difference in each setting, and in one more."""
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
        yield [f"    {'new setting' if expected else 'between settings'}", "", expected, "", text]

    def _of(self, *pair: str) -> list[ComparisonRow]:
        return [row for row in self.rows if (row.candidate, row.against) == pair]
