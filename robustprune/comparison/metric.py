"""What networks are compared by, what one network reached in it, and how such values are written for readers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from robustprune.records.tidy import Group

Floats = NDArray[Any]

POINTS = "pp"
"""Unit of shares: values in percent, differences in percentage points."""

SHARE = 100.0


@dataclass(frozen=True)
class Metric:
    """What is compared.

    Attributes:
        key: A stable name.
        label: One for readers.
        group: What it belongs to.
        unit: Of the difference, ``pp`` for shares; empty where there is none.
        higher_is_better: Which direction is good.
    """

    key: str
    label: str = field(compare=False)
    group: Group
    unit: str = POINTS
    higher_is_better: bool = True

    @property
    def kind(self) -> str:
        """What stands before the bracket of the key."""
        return self.key.partition("[")[0]


@dataclass(frozen=True, eq=False)
class MetricValue:
    """What one network reached.

    Attributes:
        value: In the metric's unit.
        samples: What each sample adds to the value, (n,) each: the value varies with the samples as ``scale`` times
            the sum of the means of these. Booleans where a sample is right or wrong. Empty where it is not on file.
        scale: From samples to the unit; ``SHARE`` for samples in [0, 1], which are given in percent.
        replicates: (R,) values on samples drawn anew, for a metric that is no mean; draw r is the same for all.
        bias: How far the value lies, in expectation, above what it estimates; replicates are without it.
        doubt: Standard deviation of what that may be off by, for networks alike.
        n_samples: How many samples; None for what samples have no part in.
        settings: What has to be equal in two records; None stands for what does not matter.
        seed: Of the evaluation, where the value depends on it.
        problem: Why the value means nothing.
    """

    value: float
    samples: tuple[Floats, ...] = ()
    scale: float = 1.0
    replicates: Floats | None = None
    bias: float = 0.0
    doubt: float = 0.0
    n_samples: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    problem: str | None = None

    @property
    def varies(self) -> bool:
        """Whether it is known how the value varies with the samples."""
        return bool(self.samples) or self.replicates is not None

    @property
    def right(self) -> Floats | None:
        """Which samples are right, (n,) booleans, where each is right or wrong."""
        return self.samples[0] if self.samples and self.samples[0].dtype == bool else None


MetricValues = dict[Metric, MetricValue]


def write_value(value: float | None, unit: str) -> str:
    """Return a value for readers, shares in percent; empty where there is none."""
    if value is None:
        return ""
    return f"{value:.2f}" if unit == POINTS else write_short(value)


def write_difference(value: float | None, unit: str) -> str:
    """Return a difference for readers, with its sign; empty where there is none."""
    return "" if value is None else f"{'−' if value < 0 else '+'}{write_value(abs(value), unit)}"


def write_interval(interval: tuple[float, float], unit: str) -> str:
    """Return an interval of differences for readers."""
    return "[{}, {}]".format(*(write_difference(end, unit) for end in interval))


def write_short(value: float) -> str:
    """Return a number with three or four digits, large ones in thousands, millions or thousands of them."""
    for scale, suffix in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= scale:
            return f"{value / (1e3 if suffix == ' k' else scale):.4g}{suffix}"
    return f"{value:.3f}" if 0.001 <= abs(value) < 10 else f"{value:.4g}"
