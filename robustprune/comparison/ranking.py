"""Ranks three kinds of networks or more: mean ranks over settings, or over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from robustprune.metrics.ranks import LEAST_BLOCKS, LEAST_METHODS, MeanRanks, rank_methods

Blocks = Literal["settings", "seeds"]


@dataclass(frozen=True)
class Ranking:
    """Kinds of networks, sorted by their mean rank in one metric.

    Attributes:
        metric: Key of the metric.
        label: Its name for readers.
        over: What the ranks are averaged over.
        blocks: Names of these settings or seeds.
        names: Names of the kinds, the best first.
        ranks: Mean ranks of the kinds, in the same order.
        confidence: Confidence level of the critical difference.
    """

    metric: str
    label: str
    over: Blocks
    blocks: tuple[str, ...]
    names: tuple[str, ...]
    ranks: MeanRanks
    confidence: float

    @property
    def title(self) -> str:
        """What the table shows."""
        return f"mean ranks in {self.label}, over {len(self.blocks)} {self.over}"

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return headings and lines of a table, the best first."""
        lines = []
        for place, (name, mean) in enumerate(zip(self.names, self.ranks.means, strict=True)):
            near = sorted({each for clique in self.ranks.cliques if place in clique for each in clique} - {place})
            lines.append([name, f"{mean:.2f}", ", ".join(self.names[each] for each in near) or "–"])
        return ["network", ">mean rank", "no significant difference from"], lines

    def notes(self) -> list[str]:
        """Return what the table rests on."""
        p_value = f"{self.ranks.p_value:.3f}" if self.ranks.p_value >= 0.001 else "<0.001"
        found = "no significant difference" if self.ranks.p_value >= 1 - self.confidence else "significant from"
        gap = (
            f"{found} a difference of {self.ranks.critical_difference:.2f} in mean rank"
            if found.endswith("from")
            else found
        )
        return [
            f"1 is best. Friedman's test of no difference: p {p_value}; {gap} (Nemenyi, {100 * self.confidence:.4g} %)."
        ]


def rank_blocks(
    metric: str,
    label: str,
    over: Blocks,
    values: Mapping[str, Mapping[str, float]],
    *,
    higher_is_better: bool = True,
    confidence: float = 0.95,
) -> Ranking | None:
    """Return how kinds of networks rank, from block → kind → value; None of fewer than three kinds or blocks.

    Blocks that lack a kind are left out.
    """
    names = list(dict.fromkeys(name for own in values.values() for name in own))
    whole = {block: own for block, own in values.items() if len(own) == len(names)}
    if len(names) < LEAST_METHODS or len(whole) < LEAST_BLOCKS:
        return None
    table = np.array([[own[name] for name in names] for own in whole.values()])
    means = rank_methods(table, confidence, higher_is_better=higher_is_better).means
    order = sorted(range(len(names)), key=lambda place: means[place])
    ranks = rank_methods(table[:, order], confidence, higher_is_better=higher_is_better)
    return Ranking(metric, label, over, tuple(whole), tuple(names[place] for place in order), ranks, confidence)
