"""The groups of records that figures draw, and their means with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

from robustprune.attacks.norms import write_norm
from robustprune.comparison.record_metrics import measured_alike
from robustprune.metrics import SeedMean, mean_over_seeds, wilson_interval
from robustprune.records import Record
from robustprune.report.figures.style import COLOURS, series_style

Groups = Mapping[str, Sequence[Record]]


@dataclass(frozen=True)
class FigureGroups:
    """The groups of records that are drawn.

    Attributes:
        groups: Name → records of its seeds; the first is the reference.
        note: A sentence on the groups that are not drawn; empty where all are.
    """

    groups: Groups
    note: str

    @property
    def reference(self) -> str:
        """The name of the dense networks."""
        return next(iter(self.groups))

    @property
    def seeds(self) -> str:
        """The number of networks of each group, in words."""
        counts = sorted({len(records) for records in self.groups.values()})
        many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        return f"{many} network{'s' if counts[-1] > 1 else ''} of each kind"

    @property
    def images(self) -> int:
        """The number of images that each network was evaluated on."""
        return self.groups[self.reference][0].n

    def caption(self, text: str) -> str:
        """Return a caption, with the note."""
        return f"{text} {self.note}".strip()

    @cached_property
    def styles(self) -> dict[str, dict[str, Any]]:
        """Name → colour, marker and line, the same in all figures."""
        return {name: series_style(place) for place, name in enumerate(self.groups)}

    def collect(self, read: Callable[[Record], float | None]) -> dict[str, list[float]]:
        """Return a value of each network, for the groups whose networks all have it."""
        found = {name: [read(record) for record in records] for name, records in self.groups.items()}
        return {name: [float(v) for v in each if v is not None] for name, each in found.items() if None not in each}

    def is_alike(self, cost: str | None, name: str) -> bool:
        """Return whether a cost was measured under the same circumstances in a group as in the dense one."""
        pairs = product(self.groups[name], self.groups[self.reference])
        return cost is None or all(measured_alike(cost, own, dense) for own, dense in pairs)

    def having(self, has: Callable[[Record], object]) -> dict[str, Sequence[Record]]:
        """Return the groups whose records all pass a test."""
        return {name: records for name, records in self.groups.items() if all(map(has, records))}


def choose_groups(groups: Groups) -> FigureGroups:
    """Return the reference, and of the others those of highest mean accuracy, as many as there are colours."""
    reference, *others = groups
    accuracy = {name: mean_over_seeds([record.clean.accuracy for record in groups[name]]).mean for name in others}
    ranked = sorted(others, key=lambda name: -accuracy[name])
    kept = {reference, *ranked[: len(COLOURS)]}
    shown = {name: records for name, records in groups.items() if name in kept}
    note = ""
    if len(shown) < len(groups):
        note = f"Only the {len(COLOURS)} of {len(others)} kinds with the highest clean accuracy are drawn."
    return FigureGroups(shown, note)


def share_over_seeds(values: Sequence[float], n: int) -> SeedMean:
    """Return the mean of shares in percent: over networks, or for one network with the interval of its n images."""
    if len(values) == 1:
        low, high = wilson_interval(round(values[0] / 100 * n), n)
        return SeedMean(values[0], 100 * low, 100 * high)
    return mean_over_seeds(values, bounds=(0, 100))


INTERVAL = "95 % interval, over networks (Student's t), of a single network over images (Wilson)"
"""The intervals of :func:`share_over_seeds` in words, for captions."""


def name_attack(name: str, norm: str) -> str:
    """Return an attack and its norm for readers."""
    return f"{name} ({write_norm(norm)})"


AttackKey = tuple[str, str, float]


def attack_values(records: Sequence[Record]) -> dict[AttackKey, list[float]]:
    """Return (attack, norm, ε) → robust accuracy in percent of each network, where all networks have a valid one.

    ε is rounded to twelve digits: one record may have it as a fraction and another as a decimal number.
    """
    tables = [
        {(e.name, e.norm, float(f"{e.epsilon:.12g}")): 100 * e.robust_accuracy for e in record.attacks if e.valid}
        for record in records
    ]
    return {key: [table[key] for table in tables] for key in tables[0] if all(key in table for table in tables)}
