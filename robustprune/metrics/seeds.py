"""What several training runs say together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Return Student's interval for the mean of what the values are a sample of.

    It takes the values for independent and normal, as differences between runs of different seeds about are; with
    three of them it reaches 2.5 standard deviations to either side.

    Args:
        values: One number per run.
        confidence: How often such intervals hold the mean.

    Returns:
        Lower and upper end; None for fewer than two values, which say nothing about their spread.
    """
    if len(values) < 2:
        return None
    deviation = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = deviation * float(stdtrit(len(values) - 1, (1 + confidence) / 2))
    mean = float(np.mean(values))
    return mean - half, mean + half


def mean_and_half_width(values: Sequence[float], form: str = "{:+.2f}") -> str:
    """Return the mean with half the width of its interval as text, ``+0.33 ± 0.12``; the mean alone of one value."""
    mean, interval = form.format(float(np.mean(values))), mean_interval(values)
    mean = mean.replace("-", "−")
    return mean if interval is None else f"{mean} ± {(interval[1] - interval[0]) / 2:.2f}"
