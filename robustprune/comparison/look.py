"""One of several looks at a comparison that gets further seeds until its verdicts are decided."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from robustprune.comparison.verdict import Verdict
from robustprune.metrics.sequential import look_levels
from robustprune.runtime.files import user_path

DECIDED: tuple[Verdict, ...] = ("better", "equivalent", "worse")
"""Verdicts that end a question; one that is no worse may yet be found better or equivalent."""


@dataclass(frozen=True)
class Look:
    """A look.

    Attributes:
        number: Which, from 1 on.
        seeds: After how many seeds each look is planned.
        metric: Key or kind of the metric that is to be decided.
        confidence: That the verdicts of all looks have together.
        is_last: Whether no further seeds are trained: all is decided, or there are no more.
    """

    number: int
    seeds: tuple[int, ...]
    metric: str = "accuracy"
    confidence: float = 0.95
    is_last: bool = False

    @property
    def own_confidence(self) -> float:
        """That of the bounds at this look."""
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
            f"Look {self.number} of {len(self.seeds)}, after {self.seeds[self.number - 1]} of at most {self.seeds[-1]} "
            f"seeds{ends}: intervals are of {own}, so that the verdicts of all looks together hold with {together}."
        )


def find_look(places: Iterable[str | Path]) -> Look | None:
    """Return the last look at the networks in some folders, of sweeps that train until verdicts are decided.

    Of several sweeps it is the one that asks for the most confidence. None where there is no such sweep.
    """
    found: dict[tuple[int, ...], Look] = {}
    for place in places:
        folder = user_path(place)
        for path in sorted(folder.rglob("comparison.json")) if folder.is_dir() else ():
            look = _read_look(path)
            if look is not None and look.number > getattr(found.get(look.seeds), "number", 0):
                found[look.seeds] = look
    return max(found.values(), key=lambda look: look.own_confidence, default=None)


def _read_look(path: Path) -> Look | None:
    try:
        content = json.loads(path.read_bytes())["look"]
        return content and Look(**{**content, "seeds": tuple(content["seeds"])})
    except (OSError, ValueError, LookupError, TypeError):  # of an earlier version, or somebody else's
        return None
