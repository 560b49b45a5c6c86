"""How long a network takes to answer, timed on a machine that is never quiet: in turn, medians with quartiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from robustprune.cost.counts import noise_images
from robustprune.inference import freeze
from robustprune.models import as_network, chosen_device
from robustprune.runtime.arrays import Array
from robustprune.runtime.devices import Device

_WARM_UP = 2
_LEAST_ROUNDS = 5


@dataclass(frozen=True)
class Spread:
    """The middle of several measurements: the median, the third quartile minus the first, and how many there were."""

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
    """
    place = torch.device(device)

    def now() -> float:
        if place.type != "cpu":
            torch.accelerator.synchronize(place)
        return time.perf_counter()

    for run in runs:
        for _ in range(_WARM_UP):
            run()
    times: list[list[float]] = [[] for _ in runs]
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < _LEAST_ROUNDS or time.perf_counter() < end:
        for index in range(len(runs))[:: -1 if rounds % 2 else 1]:
            start = now()
            runs[index]()
            times[index].append(now() - start)
        rounds += 1
    return times


def ratio_spread(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Return the spread of the ratios within each round."""
    return Spread.of([above / below for above, below in zip(numerators, denominators, strict=True)])


@dataclass(frozen=True)
class Latency:
    """Times of a forward pass: images per pass, milliseconds of each, processor threads, and the device."""

    batch_size: int
    milliseconds: tuple[float, ...]
    threads: int
    device: str

    @property
    def spread(self) -> Spread:
        """Median and interquartile range in milliseconds."""
        return Spread.of(self.milliseconds)

    def saved_percent(self, dense: Latency) -> float:
        """Return how much less time this takes than ``dense``, measured in turn with it: median over the rounds."""
        return 100 * (1 - ratio_spread(self.milliseconds, dense.milliseconds).median)

    def to_dict(self) -> dict[str, Any]:
        """Return median, interquartile range and circumstances by name."""
        return {
            **self.spread.to_dict(),
            "batch_size": self.batch_size,
            "threads": self.threads,
            "device": self.device,
        }


def measure_latencies(
    models: Sequence[nn.Module],
    *,
    batch_size: int = 1,
    seconds: float = 2.0,
    device: Device = None,
    example: Array | None = None,
) -> list[Latency]:
    """Time the forward pass of networks on noise, in turn; they are left as they were.

    Timed is the frozen copy (see :func:`robustprune.inference.freeze`), under inference mode, images already in
    place, after a warm-up.

    Args:
        models: Networks that take like images.
        batch_size: Images per pass.
        seconds: For how long to measure; at least five passes of each are made.
        device: Where to compute; by default where the first network is.
        example: Images (N, …) whose shape is taken, for networks that were not built by this package.

    Raises:
        ModelError: A network does not run on such images.
    """
    place = chosen_device(as_network(models[0]), device)
    runs = [frozen_run(model, batch_size, place, example) for model in models]
    return time_runs(runs, batch_size=batch_size, seconds=seconds, device=place)


def time_runs(
    runs: Sequence[Callable[[], object]],
    *,
    batch_size: int,
    seconds: float = 2.0,
    device: torch.device | str = "cpu",
) -> list[Latency]:
    """Time functions that each make one forward pass, as :func:`measure_latencies` does networks."""
    with torch.inference_mode():
        times = time_in_turn(runs, seconds, device)
    return [
        Latency(batch_size, tuple(1000 * value for value in each), torch.get_num_threads(), str(device))
        for each in times
    ]


def frozen_run(
    model: nn.Module, batch_size: int, device: torch.device | str = "cpu", example: Array | None = None
) -> Callable[[], object]:
    """Return a function that sends a batch of noise through the frozen copy of a network."""
    images = noise_images(model, batch_size, example).to(device)
    frozen = freeze(model, noise_images(model, 1, example), device=device)
    return lambda: frozen(images)
