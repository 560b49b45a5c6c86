"""What networks are evaluated in side by side: corruptions, which are made once for all of them, and latency."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from torch import nn

from robustprune.evaluation.corruption_sources import CorruptedImages
from robustprune.evaluation.corruptions import add_corruptions
from robustprune.evaluation.latency import add_latency
from robustprune.records import Record
from robustprune.runtime.processes import ALONE, Processes


def evaluate_together(
    evaluated: Sequence[tuple[nn.Module, Record]],
    corrupted: CorruptedImages | None,
    shape: Sequence[int],
    *,
    latency: bool,
    processes: Processes = ALONE,
    **settings: Any,
) -> None:
    """Add what was asked for to the records of networks, and to the seconds of each how long that took for all.

    Args:
        evaluated: Networks, each with its record of the same sample.
        corrupted: The corrupted sample, if there is one.
        shape: Of one image.
        latency: Whether to time the networks, in turn.
        processes: Those that share the images; the main one alone times.
        settings: Of :func:`robustprune.evaluation.corruptions.run_corruptions`.

    Raises:
        ModelError: A network cannot be timed.
    """
    start = time.perf_counter()
    if corrupted is not None:
        add_corruptions(evaluated, corrupted, processes=processes, **settings)
    if latency:
        processes.from_main(lambda: add_latency(evaluated, shape))
    seconds = time.perf_counter() - start
    for _, record in evaluated:
        record.seconds += seconds
