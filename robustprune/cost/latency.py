"""How long a network takes to answer, as the frozen copy that one would use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from robustprune.cost.images import noise_images
from robustprune.cost.timing import Spread, ratio_spread, time_in_turn
from robustprune.inference import freeze
from robustprune.runtime.arrays import Array


@dataclass(frozen=True)
class Latency:
    """Times of a forward pass.

    Attributes:
        batch_size: Images per pass.
        milliseconds: Of each pass.
        threads: Processor threads that computed.
        device: Where.
    """

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
    device: torch.device | str = "cpu",
    example: Array | None = None,
) -> list[Latency]:
    """Time the forward pass of networks on noise, in turn; they are left as they were.

    Timed is the frozen copy (see :func:`robustprune.inference.freeze`), under inference mode, images already in
    place, after a warm-up.

    Args:
        models: Networks that take like images.
        batch_size: Images per pass.
        seconds: For how long to measure; at least five passes of each are made.
        device: Where to compute.
        example: Images (N, …) whose shape is taken, for networks that were not built by this package.

    Raises:
        ModelError: A network does not run on such images.
    """
    runs = [frozen_run(model, batch_size, device, example) for model in models]
    return time_runs(runs, batch_size=batch_size, seconds=seconds, device=device)


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
    frozen = freeze(model, noise_images(model, 1, example)).to(device)
    return lambda: frozen(images)
