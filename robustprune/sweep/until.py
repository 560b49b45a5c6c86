"""Until when a sweep trains further seeds: what its file says of that, and what a look at the verdicts finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from robustprune.comparison import Comparison, compare
from robustprune.comparison.interim_look import InterimLook
from robustprune.comparison.verdict import KINDS, TOLERANCES
from robustprune.errors import RobustPruneError, SweepError
from robustprune.metrics.seeds import LEAST_SEEDS
from robustprune.metrics.sequential import plan_looks
from robustprune.registry import suggest
from robustprune.runtime.requests import Request


class Until(Request):
    """When a sweep ends that goes on with further seeds: ``until: decided``.

    Attributes:
        verdict: Every ticket is found better, equivalent or worse.
        most_seeds: No more than these, whatever the verdict.
        metric: Key or kind of the metric that is to be decided.
        tolerance: ξ of that; by default that of its kind.
        confidence: Of the verdicts, all looks together.
    """

    FIRST: ClassVar[str | None] = "verdict"
    ERROR: ClassVar[type[RobustPruneError]] = SweepError

    verdict: Literal["decided"] = "decided"
    most_seeds: Annotated[int, Field(ge=LEAST_SEEDS, le=1000)] = 20
    metric: str = "accuracy"
    tolerance: Annotated[float, Field(ge=0, lt=100)] | None = None
    confidence: Annotated[float, Field(ge=0.5, le=0.999)] = 0.95

    @field_validator("metric")
    @classmethod
    def _has_verdicts(cls, metric: str) -> str:
        kind = metric.partition("[")[0]
        if kind not in KINDS:
            raise ValueError(f"no verdict is given on a metric {metric!r}.{suggest(kind, list(KINDS))}")
        return metric

    @property
    def looks(self) -> tuple[InterimLook, ...]:
        """The looks that are planned."""
        seeds = plan_looks(self.most_seeds)
        return tuple(InterimLook(place, seeds, self.metric, self.confidence) for place in range(1, len(seeds) + 1))

    def settings(self, look: InterimLook) -> dict[str, Any]:
        """Return what decides how a look's comparison comes out, as JSON can hold it."""
        kind = self.metric.partition("[")[0]
        own = {} if self.tolerance is None else {kind: self.tolerance}
        asked = {"number": look.number, "seeds": list(look.seeds), "metric": look.metric, "confidence": look.confidence}
        return {"look": asked, "tolerance": {**TOLERANCES, **own}}


def compare_at(look: InterimLook, dense: Sequence[str], tickets: Mapping[str, Sequence[str]], **how: Any) -> Comparison:
    """Return the comparison of a look, judged by its confidence; the arguments are those of ``compare``.

    Raises:
        SweepError: No record has the metric that is to be decided.
    """
    found = compare(dense, tickets, confidence=look.own_confidence, **how)
    deciding = [row for row in found.rows if look.metric in (row.metric, row.metric.partition("[")[0])]
    if not deciding:
        measured = ", ".join(dict.fromkeys(row.metric for row in found.rows if row.verdict))
        raise SweepError(f"no record has {look.metric}, which until: decided is to decide; measured are {measured}")
    taken = replace(look, is_last=look.decides([row.verdict for row in deciding]))
    return replace(found, look=taken)
