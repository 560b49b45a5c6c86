"""An interim look at a comparison: further seeds are trained until the verdicts are decided."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from robustprune.comparison.verdict import Verdict
from robustprune.metrics.sequential import look_levels
from robustprune.runtime.files import user_path

DECIDED: tuple[Verdict, ...] = ("better", "equivalent", "worse")
"""Verdicts that further seeds are not to change; ``no worse`` may still become better or equivalent."""


@dataclass(frozen=True)
class InterimLook:
    """One of the looks that a group-sequential comparison plans.

    Attributes:
        number: Its number, from 1 on.
        seeds: Number of seeds at each planned look.
        metric: Key or kind of the metric that is to be decided.
        confidence: Confidence of the verdicts of all looks together.
        is_last: Whether no further seeds are trained: all verdicts are decided, or there are no more seeds.
    """

    number: int
    seeds: tuple[int, ...]
    metric: str = "accuracy"
    confidence: float = 0.95
    is_last: bool = False

    @property
    def own_confidence(self) -> float:
        """Confidence of the bounds at this look."""
        return 1 - look_levels(self.seeds, 1 - self.confidence)[self.number - 1]

    def decides(self, verdicts: Iterable[Verdict | None]) -> bool:
        """Return whether the sweep ends with these verdicts of the metric."""
        return self.number == len(self.seeds) or all(verdict in DECIDED for verdict in verdicts)

    @property
    def text(self) -> str:
        """A sentence for readers."""
        ends = "; no more are trained" if self.is_last else ""
        own, together = (f"{100 * each:.4g} %" for each in (self.own_confidence, self.confidence))
        return (
            f"Interim look {self.number} of {len(self.seeds)}, after {self.seeds[self.number - 1]} of at most "
            f"{self.seeds[-1]} seeds{ends}. Its intervals have {own} confidence, so that the verdicts of all looks "
            f"together have {together}."
        )


def find_look(places: Iterable[str | Path]) -> InterimLook | None:
    """Return the last look of the sweeps in some folders that train until their verdicts are decided.

    Of several sweeps, the look with the highest confidence. None where there is no such sweep.
    """
    found: dict[tuple[int, ...], InterimLook] = {}
    for place in places:
        folder = user_path(place)
        for path in sorted(folder.rglob("comparison.json")) if folder.is_dir() else ():
            look = _read_look(path)
            if look is not None and look.number > getattr(found.get(look.seeds), "number", 0):
                found[look.seeds] = look
    return max(found.values(), key=lambda look: look.own_confidence, default=None)


def _read_look(path: Path) -> InterimLook | None:
    try:
        content = json.loads(path.read_bytes())["look"]
        return content and InterimLook(**{**content, "seeds": tuple(content["seeds"])})
    except (OSError, ValueError, LookupError, TypeError):  # of an earlier version, or of another program
        return None
