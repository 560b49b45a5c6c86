"""Accuracy under corruptions: the images are made, or read, once for all networks."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustprune.corruptions import EXTRAS, HEADLINE, SEVERITIES
from robustprune.corruptions.corruption_result import (
    AgainstDense,
    CorruptionResult,
    SeverityEntry,
    Table,
    counted_cells,
)
from robustprune.errors import ModelError, ModelWarning
from robustprune.evaluation.corruption_sources import CorruptedImages, Idle, fingerprints
from robustprune.inference import freeze, predict_logits
from robustprune.metrics import accuracy, brier_score, expected_calibration_error, negative_log_likelihood
from robustprune.records import Record, Samples
from robustprune.runtime.work import Work, labelled, steps

# Pixels that are corrupted and shown to every network before the next ones are.
_CHUNK_BYTES = 1 << 26


def add_corruptions(
    evaluated: Sequence[tuple[nn.Module, Record]], images: CorruptedImages, *, batch_size: int, work: Work
) -> None:
    """Show corrupted images to networks and add what comes of it to their records.

    Images are made chunk by chunk, each shown to all networks before the next is made; only logits are kept, of one
    corruption at one severity. Processes share the images of each corruption at each severity.

    Each record is of the same sample without corruption.
    """
    start = time.perf_counter()
    networks = [_faster(network, images) for network, _ in evaluated]
    found = [_Figures(record, images) for _, record in evaluated]
    idle = Idle(images)
    cells = [(name, severity) for name in images.names for severity in SEVERITIES]
    step = steps(labelled(work.progress, "corruptions"), len(cells))
    for name, severity in cells:
        labels = images.labels(name, severity)
        run = partial(_logits, networks, images, batch_size, (name, severity))
        prints, *outputs = work.processes.spread(len(labels), batch_size, run)
        idle.look(name, severity, prints)
        for figures, logits in zip(found, outputs, strict=True):
            figures.add(name, logits, labels)
        step()
    published, seconds = images.published(), time.perf_counter() - start
    for (_, record), figures in zip(evaluated, found, strict=True):
        record.corruptions = figures.result(idle, published, seconds)
        record.samples = {**(record.samples or {}), **figures.samples}


def _logits(
    networks: Sequence[nn.Module], images: CorruptedImages, batch_size: int, cell: tuple[str, int], places: Tensor
) -> list[Tensor]:
    """Return fingerprints (n,) of some of the images, and the logits (n, K) of each network for them."""
    rows: list[list[Tensor]] = [[] for _ in range(1 + len(networks))]
    for part in torch.split(places, max(1, _CHUNK_BYTES // images.originals[0].numel())):
        pixels = images.make(*cell, part)
        rows[0].append(fingerprints(pixels))
        for network, found in zip(networks, rows[1:], strict=True):
            found.append(predict_logits(network, pixels, batch_size=batch_size))
    return [torch.cat(found) for found in rows]


def relate_to_dense(record: Record, reference: Record) -> None:
    """Add to a record its errors under corruptions relative to those of the dense network's; both have some."""
    result, dense = record.corruptions, reference.corruptions
    assert result is not None
    assert dense is not None
    ratios, relative, missing = [], [], 0
    for name in result.table:
        cells = result.counted([name])
        if not cells:
            continue
        own, reached = (_values(table, cells) for table in (result.table, dense.table))
        if (errors := np.sum(1 - reached)) > 0:
            ratios.append(np.sum(1 - own) / errors)
        else:
            missing += 1
        if (lost := np.sum(reference.clean.accuracy - reached)) > 0:
            relative.append(np.sum(record.clean.accuracy - own) / lost)
    result.dense = AgainstDense(
        sha256=reference.model.sha256,
        path=reference.model.path,
        mce_vs_dense=float(np.mean(ratios)) if ratios and not missing else None,
        relative_mce_vs_dense=float(np.mean(relative)) if relative else None,
    )


class _Figures:
    """What is known of one network so far."""

    def __init__(self, record: Record, images: CorruptedImages) -> None:
        assert record.samples is not None
        self.images, self.clean_accuracy = images, record.clean.accuracy
        self.clean_predictions = torch.from_numpy(record.samples["clean_prediction"])
        self.tables: dict[str, Table] = {
            figure: {name: [] for name in images.names} for figure in ("table", "nll", "ece", "brier", "consistency")
        }
        self.samples: Samples = {}
        self.count = 0

    def add(self, name: str, logits: Tensor, labels: Tensor) -> None:
        """Take in one corruption at the next severity."""
        predictions = logits.argmax(dim=1)
        for figure, measure in _MEASURES.items():
            self.tables[figure][name].append(measure(logits, labels))
        if self.images.is_paired:
            same = (predictions == self.clean_predictions).double().mean()
            self.tables["consistency"][name].append(float(same))
        severity = len(self.tables["table"][name])
        self.samples[f"corruption_{name}_{severity}"] = predictions.numpy().astype(np.int32)
        if not self.images.is_paired:
            self.samples["corruption_label"] = labels.numpy()
        self.count = len(labels)

    def result(self, idle: Idle, published: dict[str, bool | None], seconds: float) -> CorruptionResult:
        """Return the figures of all corruptions."""
        tables: dict[str, Any] = dict(self.tables)
        consistency = tables.pop("consistency")
        headline, every, evaluated = (
            self._mean(names, idle) for names in (HEADLINE, HEADLINE + EXTRAS, self.images.names)
        )
        return CorruptionResult(
            source=self.images.source,
            published=published,
            missing=list(self.images.missing),
            n=self.count,
            scale=self.images.scale,
            mean_accuracy=headline,
            mean_error=None if headline is None else 1 - headline,
            mean_error_19=None if every is None else 1 - every,
            mean_error_evaluated=None if evaluated is None else 1 - evaluated,
            relative_mean_error=None if evaluated is None else self.clean_accuracy - evaluated,
            **tables,
            consistency=consistency if self.images.is_paired else None,
            by_severity=_by_severity(tables, idle),
            unchanged=idle.unchanged,
            repeated=idle.repeated,
            seconds=seconds,
        )

    def _mean(self, names: Sequence[str], idle: Idle) -> float | None:
        """Return the mean accuracy under corruptions; None unless all are there and one changes an image."""
        table = self.tables["table"]
        cells = counted_cells(names, idle.unchanged) if set(names) <= set(table) else []
        return float(np.mean(_values(table, cells))) if cells else None


_MEASURES = {
    "table": accuracy,
    "nll": negative_log_likelihood,
    "ece": expected_calibration_error,
    "brier": brier_score,
}


def _by_severity(tables: Mapping[str, Table], idle: Idle) -> list[SeverityEntry]:
    names = HEADLINE if set(HEADLINE) <= set(tables["table"]) else tuple(tables["table"])
    counted = counted_cells(names, idle.unchanged)
    entries = []
    for severity in SEVERITIES:
        cells = [cell for cell in counted if cell[1] == severity]
        if cells:
            means = {figure: float(np.mean(_values(table, cells))) for figure, table in tables.items()}
            entries.append(SeverityEntry(severity=severity, accuracy=means.pop("table"), **means))
    return entries


def _values(table: Table, cells: Sequence[tuple[str, int]]) -> NDArray[np.float64]:
    return np.array([table[name][severity - 1] for name, severity in cells])


def _faster(network: nn.Module, images: CorruptedImages) -> nn.Module:
    """Return a copy that computes the same faster, where one can be had: seventy-five passes are worth it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ModelWarning)
            name = images.names[0]
            return freeze(network, images.make(name, 1, torch.arange(len(images.labels(name, 1)))[:2]))
    except ModelError:
        return network
