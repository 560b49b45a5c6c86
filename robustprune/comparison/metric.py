"""The metrics that networks are compared by, their values, and how values are written for readers."""

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
    """A metric.

    Attributes:
        key: Stable name, such as ``robust_accuracy[pgd Linf 0.0314]``.
        label: Name for readers.
        group: Group of the metric.
        unit: Unit of the difference, ``pp`` for shares; empty where there is none.
        higher_is_better: Whether higher values are better.
    """

    key: str
    label: str = field(compare=False)
    group: Group
    unit: str = POINTS
    higher_is_better: bool = True

    @property
    def kind(self) -> str:
        """The part of the key before the bracket."""
        return self.key.partition("[")[0]


@dataclass(frozen=True, eq=False)
class MetricValue:
    """The value of a metric for one network.

    Attributes:
        value: In the metric's unit.
        samples: Contributions of the samples, (n,) each: the variance of the value over samples is that of ``scale``
            times the sum of their means. Booleans where a sample is right or wrong. Empty where they are missing.
        scale: Factor from the contributions to the unit; ``SHARE`` for contributions in [0, 1].
        replicates: (R,) bootstrap values of a metric that is no mean; all networks share the samples of a replicate.
        bias: Estimated bias of ``value``; replicates are without it.
        bias_error: Standard deviation of the error of ``bias``, which all networks share.
        n_samples: Number of samples; None where the value depends on none.
        settings: Settings of the measurement, which have to be equal in two records; None is equal to anything.
        seed: Seed of the evaluation, where the value depends on it.
        problem: Why the value is invalid; None where it is valid.
    """

    value: float
    samples: tuple[Floats, ...] = ()
    scale: float = 1.0
    replicates: Floats | None = None
    bias: float = 0.0
    bias_error: float = 0.0
    n_samples: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    problem: str | None = None

    @property
    def varies(self) -> bool:
        """Whether the variance of the value over samples is known."""
        return bool(self.samples) or self.replicates is not None

    @property
    def right(self) -> Floats | None:
        """Which samples are right, (n,) booleans; None where samples are not right or wrong."""
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
    """Return a number with three or four digits, large ones with the suffix k, M or G."""
    for scale, suffix in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= scale:
            return f"{value / (1e3 if suffix == ' k' else scale):.4g}{suffix}"
    return f"{value:.3f}" if 0.001 <= abs(value) < 10 else f"{value:.4g}"
