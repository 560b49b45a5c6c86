"""Several networks on the same images, corrupted once for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from robustprune.data import ImageData, take_sample
from robustprune.errors import EvaluationError
from robustprune.evaluation.corruption_sources import find_corrupted
from robustprune.evaluation.corruptions import compare_with_dense
from robustprune.evaluation.latency import check_timing
from robustprune.evaluation.run import evaluate
from robustprune.evaluation.together import evaluate_together
from robustprune.models import as_network
from robustprune.records import Record
from robustprune.runtime.processes import ALONE, Processes
from robustprune.runtime.work import Progress
from robustprune.tickets.ticket import Ticket


def evaluate_models(
    models: Mapping[str, Ticket | nn.Module],
    data: ImageData,
    *,
    dense: str | None = None,
    split: str = "test",
    corruptions: str | Sequence[str] = (),
    corruption_dir: str | Path | None = None,
    corruption_options: Mapping[str, Any] | None = None,
    latency: bool = False,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 256,
    paths: Mapping[str, str] | None = None,
    processes: Processes = ALONE,
    progress: Progress | None = None,
    **settings: Any,
) -> dict[str, Record]:
    """Evaluate networks one after the other, and under corruptions side by side; return their records.

    What is done side by side counts in the seconds of each of them, as it took for all.

    Args:
        models: Name → network. All are shown the same images.
        data: The image set.
        dense: Which of them the others' errors under corruptions are related to.
        split: As for :func:`robustprune.evaluate`, like what follows.
        corruptions: Likewise.
        corruption_dir: Likewise.
        corruption_options: Likewise.
        latency: Likewise; they are timed in turn.
        limit: Likewise.
        seed: Likewise.
        batch_size: Likewise.
        paths: Name → where a network came from.
        processes: As for :func:`robustprune.evaluate`.
        progress: Called as work proceeds.
        settings: The other arguments of :func:`robustprune.evaluate`.

    Raises:
        EvaluationError: ``dense`` is none of the networks, or there are no corruptions to relate.
        RobustPruneError: As for :func:`robustprune.evaluate`.
    """
    if dense is not None and dense not in models:
        raise EvaluationError(f"the dense network {dense!r} is none of {', '.join(models)}")
    for model in models.values():
        if latency:
            check_timing(model)
    # Found before anything else is done: a set that is not there should not be missed after an hour.
    sample = take_sample(data, split, limit, seed)
    images = find_corrupted(corruptions, corruption_dir, data, sample, seed, limit, corruption_options or {})
    if dense is not None and images is None:
        raise EvaluationError("errors are related to a dense network's under corruptions only; name some")
    shared: dict[str, Any] = {"batch_size": batch_size, "processes": processes, "progress": progress}
    chosen: dict[str, Any] = {"split": split, "limit": limit, "seed": seed, **shared}
    records = {
        name: evaluate(model, data, path=(paths or {}).get(name), **chosen, **settings)
        for name, model in models.items()
    }
    networks = (as_network(model.model() if isinstance(model, Ticket) else model) for model in models.values())
    evaluated = list(zip(networks, records.values(), strict=True))
    evaluate_together(evaluated, images, sample.images[0].shape, latency=latency, **shared)
    if dense is not None:
        for name in records.keys() - {dense}:
            relate_to_dense(records[name], records[dense])
    return records


def relate_to_dense(record: Record, reference: Record) -> None:
    """Add to a record its errors under corruptions relative to those of the dense network's; both have some."""
    assert record.corruptions is not None
    assert reference.corruptions is not None
    record.corruptions.dense = compare_with_dense(
        record.corruptions,
        reference.corruptions,
        (record.clean.accuracy, reference.clean.accuracy),
        sha256=reference.model.sha256,
        path=reference.model.path,
    )
