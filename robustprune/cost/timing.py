"""Timing on a machine that is never quiet: in turn, within one process, medians with quartiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

_WARM_UP = 2
_LEAST_ROUNDS = 5


@dataclass(frozen=True)
class Spread:
    """The middle of several measurements.

    Attributes:
        median: The median.
        iqr: The interquartile range: the third quartile minus the first.
        repeats: How many measurements.
    """

    median: float
    iqr: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        first, median, third = (float(quartile) for quartile in np.percentile(values, [25, 50, 75]))
        return cls(median, third - first, len(values))

    def to_dict(self) -> dict[str, Any]:
        """Return the three by name."""
        return asdict(self)


def time_in_turn(
    runs: Sequence[Callable[[], object]], seconds: float, device: torch.device | str = "cpu"
) -> list[list[float]]:
    """Return the seconds of each call of each function, called in turn until the time is up.

    In turn, so that a drift of the machine's speed hits all alike; every other round backwards, so that none
    always follows the same one. Each is called twice before, uncounted, and at least five times whatever it takes.

    Args:
        runs: What to time.
        seconds: For how long.
        device: Where they compute; a GPU is waited for.
    """
    wait = _waiting(torch.device(device))
    for run in runs:
        for _ in range(_WARM_UP):
            run()
    times: list[list[float]] = [[] for _ in runs]
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < _LEAST_ROUNDS or time.perf_counter() < end:
        for index in range(len(runs))[:: -1 if rounds % 2 else 1]:
            wait()
            start = time.perf_counter()
            runs[index]()
            wait()
            times[index].append(time.perf_counter() - start)
        rounds += 1
    return times


def ratio_spread(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Return the spread of the ratios within each round."""
    return Spread.of([above / below for above, below in zip(numerators, denominators, strict=True)])


def _waiting(device: torch.device) -> Callable[[], None]:
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    if device.type == "mps":
        return torch.mps.synchronize
    return lambda: None
