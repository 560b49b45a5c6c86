"""What an ablation found: each ticket against its controls, in sentences and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustprune.comparison import DENSE, Comparison, ComparisonRow, compare_pairs
from robustprune.comparison.comparison_row import row_cells
from robustprune.comparison.summary import write_estimate
from robustprune.comparison.verdict import TOLERANCES, Tolerance, write_margin
from robustprune.records import Record
from robustprune.runtime.html import html_paragraphs, html_table
from robustprune.tickets.requests import Pruning

_QUESTIONS = {
    "random per stage": ("the choice of blocks by {}", " beyond how many go from each stage"),
    "random": ("the choice of blocks by {}", " beyond chance"),
    "inverted": ("the choice of blocks by {}", " beyond the reverse of its ranking"),
    "shuffled": ("the initialization of {} tickets", " beyond the values in each tensor"),
    "re-initialized": ("the initialization of {} tickets", " beyond the distribution that they are drawn from"),
}
"""Control → what is in question, and beyond what: what the control has as well."""

_CHOICES = ("random per stage", "random", "inverted")
"""Controls that may happen to lack the blocks of the ticket."""

_ANSWERS = {
    "better": "{what} adds accuracy{beyond}",
    "equivalent": "{what} changes accuracy by less than {margin}{beyond}",
    "no worse": "{what} costs less than {margin} of accuracy{beyond}",
    "undecided": "Whether {what} adds accuracy{beyond} is undecided",
    "lower": "{what} adds no accuracy{beyond}; whether it costs more than {margin} is undecided",
    "worse": "{what} adds no accuracy{beyond}, but costs some",
}


@dataclass(frozen=True)
class AblatedTicket:
    """A ticket, and the name of the networks that each of its controls is."""

    name: str
    ticket: Pruning
    controls: Mapping[str, str]


@dataclass(frozen=True)
class AblationResults:
    """All networks of an ablation.

    Attributes:
        model: Name of the network.
        dataset: Name of the image set.
        epochs: Of each training.
        records: Name of the networks → seed → record; ``dense`` among them.
        tickets: What was ablated.
    """

    model: str
    dataset: str
    epochs: int
    records: Mapping[str, Mapping[int, Record]]
    tickets: tuple[AblatedTicket, ...]

    def judge(self, tolerance: Tolerance = TOLERANCES, confidence: float = 0.95) -> AblationVerdicts:
        """Compare the accuracy of each ticket with that of its controls and of the dense network, paired by seed.

        Args:
            tolerance: ξ, as for :func:`robustprune.compare`.
            confidence: Of the intervals.

        Raises:
            ComparisonError: There is no such tolerance or confidence.
        """
        pairs = [(name, own.name) for own in self.tickets for name in (*own.controls.values(), DENSE)]
        groups = {name: list(own.values()) for name, own in self.records.items()}
        how: dict[str, Any] = {"tolerance": tolerance, "confidence": confidence, "metrics": ["accuracy"]}
        return AblationVerdicts(self, compare_pairs(groups, pairs, **how))

    def with_own_blocks(self, ticket: AblatedTicket, control: str) -> int:
        """Return for how many seeds a control has removed the very blocks that the ticket has."""
        own, other = self.records[ticket.name], self.records[ticket.controls[control]]
        return sum(set(own[seed].model.removed) == set(other[seed].model.removed) for seed in own)


@dataclass(frozen=True)
class AblationVerdicts:
    """What the tickets of an ablation owe their accuracy to.

    Attributes:
        results: The networks.
        comparison: A row for each ticket and control, and for the dense network; p-values are corrected for all.
    """

    results: AblationResults
    comparison: Comparison

    def sentences(self, ticket: AblatedTicket) -> list[str]:
        """Return for each control, in one sentence, what the ticket has beyond it."""
        return [self._sentence(ticket, control, row) for control, row in self._rows(ticket) if control in _QUESTIONS]

    def table(self, ticket: AblatedTicket) -> tuple[list[str], list[list[str]]]:
        """Return headings and rows: each control, its accuracy, and the ticket's less that."""
        rows = [[control, *row_cells(row)] for control, row in self._rows(ticket)]
        spread = f">ticket − control [{100 * self.comparison.confidence:.4g} %]"
        return ["control", ">accuracy", spread, ">p", "verdict"], rows

    def title(self, ticket: AblatedTicket) -> str:
        """Return what the table shows."""
        own = self.results.records[ticket.name].values()
        mean = 100 * sum(record.clean.accuracy for record in own) / len(own)
        blocks = f"{ticket.ticket.blocks} block{'s' * (ticket.ticket.blocks != 1)}"
        return f"{ticket.name}, {blocks}: accuracy {mean:.2f} %, mean of {len(own)} seed{'s' * (len(own) != 1)}"

    def notes(self, ticket: AblatedTicket) -> list[str]:
        """Return what a reader has to know of the table."""
        seeds = self._seeds(ticket)
        same = {name: self.results.with_own_blocks(ticket, name) for name in _CHOICES}
        shared = ", ".join(f"{name} {count}" for name, count in same.items())
        return [f"Of {seeds} controls of a kind, so many have lost the very blocks that the ticket has: {shared}."]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        results = self.results
        return {
            "model": results.model,
            "dataset": results.dataset,
            "epochs": results.epochs,
            "n": next(iter(results.records[DENSE].values())).n,
            "networks": {
                name: {seed: _plain(each) for seed, each in own.items()} for name, own in results.records.items()
            },
            "tickets": [
                {
                    "name": own.name,
                    **own.ticket.model_dump(
                        mode="json", include={"criterion", "options", "blocks", "eligibility", "at_init"}
                    ),
                    "controls": dict(own.controls),
                    "verdicts": self.sentences(own),
                }
                for own in results.tickets
            ],
            "comparison": self.comparison.to_dict(),
        }

    @property
    def limitations(self) -> tuple[str, ...]:
        """What limits the verdicts."""
        return self.comparison.limitations

    def _seeds(self, ticket: AblatedTicket) -> int:
        return len(self.results.records[ticket.name])

    def _rows(self, ticket: AblatedTicket) -> list[tuple[str, ComparisonRow]]:
        by_name = {row.against: row for row in self.comparison.rows if row.candidate == ticket.name}
        return [(control, by_name[name]) for control, name in {**ticket.controls, DENSE: DENSE}.items()]

    def _sentence(self, ticket: AblatedTicket, control: str, row: ComparisonRow) -> str:
        subject, beyond = _QUESTIONS[control]
        what = subject.format(ticket.name)
        if control in _CHOICES and self.results.with_own_blocks(ticket, control) == self._seeds(ticket):
            return f"Whether {what} adds accuracy{beyond} cannot be told: the controls lack the very blocks it chose."
        if row.verdict is None:
            return f"Whether {what} adds accuracy{beyond} cannot be judged: {row.reason}."
        margin = write_margin(self.comparison.tolerances["accuracy"])
        verdict, remark = str(row.verdict), ""
        if verdict == "better" and (row.p_adjusted or 0.0) > 1 - self.comparison.confidence:
            verdict, remark = "undecided", f", as p is {row.p_adjusted:.2f} with all rows taken into account"
        elif verdict == "undecided" and row.is_loss:
            verdict = "lower"
        answer = _ANSWERS[verdict].format(what=what, beyond=beyond, margin=margin)
        if row.statement == "networks":
            answer = f"of these networks alone, {answer[0].lower()}{answer[1:]}"
        return f"{answer[0].upper()}{answer[1:]}{remark}: {ticket.name} vs. {row.against}, {write_estimate(row)}."

    def _repr_html_(self) -> str:
        parts = []
        for own in self.results.tickets:
            parts.append(html_paragraphs(self.sentences(own)))
            parts.append(html_table(self.title(own), *self.table(own), self.notes(own)))
        return "".join(parts) + html_paragraphs([f"Limitation: {each}" for each in self.limitations])


def _plain(record: Record) -> dict[str, Any]:
    return {"accuracy": record.clean.accuracy, "removed": record.model.removed, "path": record.model.path}
