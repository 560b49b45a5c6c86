"""Where the variance of accuracy comes from: each source varied alone, then all at once.

So Bouthillier et al. (2021, "Accounting for variance in machine learning benchmarks") take it apart: K networks that
differ in one source have K − 1 degrees of freedom for it, where a crossed design of as many trainings has one or two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import chdtri

from robustprune.attacks.requests import Attacks
from robustprune.comparison.failures import GAP, failed_trainings
from robustprune.comparison.metric import Metric
from robustprune.comparison.record_metrics import read_metrics
from robustprune.errors import PruningError
from robustprune.evaluation.requests import Evaluation
from robustprune.lottery.runs import dense_run
from robustprune.records import Record
from robustprune.runtime.devices import Device
from robustprune.runtime.files import hash_json
from robustprune.runtime.work import Work
from robustprune.sweep import run_here
from robustprune.sweep.settings import DataSettings, RunSettings
from robustprune.tickets.requests import Pruning
from robustprune.training import Recipe

SOURCES = ("initialization", "order", "split", "attack")
_SAID = {
    "initialization": "from the initial weights",
    "order": "from the order of training images",
    "split": "from the split",
    "attack": "from the attack",
}
TOGETHER = "all at once"
_GROUPS = ("accuracy", "robustness")


@dataclass(frozen=True)
class Variation:
    """How much a figure varies where one source does, or all do.

    Attributes:
        source: One of `SOURCES`, or ``all at once``.
        values: Of the networks, in percent.
    """

    source: str
    values: tuple[float, ...]

    @property
    def variance(self) -> float:
        """Unbiased estimate, in squared percentage points."""
        return float(np.var(self.values, ddof=1))

    @property
    def deviation(self) -> float:
        """Its root, in percentage points."""
        return math.sqrt(self.variance)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return that of the standard deviation of normal values, by the χ² distribution of the variance."""
        degrees = len(self.values) - 1
        tails = ((1 - confidence) / 2, (1 + confidence) / 2)
        low, high = (self.deviation * math.sqrt(degrees / float(chdtri(degrees, tail))) for tail in tails)
        return low, high


@dataclass(frozen=True)
class VarianceSources:
    """What accuracy, and accuracy under attacks, varies with.

    Attributes:
        model: Name of the network.
        dataset: Name of the image set.
        figures: Label → variation of each source that was varied, and of all at once.
        records: Source → records; the first of each is the network that all begin with.
    """

    model: str
    dataset: str
    figures: Mapping[str, tuple[Variation, ...]]
    records: Mapping[str, tuple[Record, ...]]

    def shares(self, figure: str) -> dict[str, float]:
        """Return the share of each source in the sum of their variances; none where nothing varies."""
        own = {each.source: each.variance for each in self.figures[figure] if each.source != TOGETHER}
        whole = sum(own.values())
        return {source: variance / whole for source, variance in own.items()} if whole else {}

    def sentence(self, figure: str) -> str:
        """Return what a figure varies with."""
        shares = sorted(self.shares(figure).items(), key=lambda each: -each[1])
        if not shares:
            return f"{figure} did not vary."
        (most, first), *rest = ((f"{100 * share:.0f} %", _SAID[source]) for source, share in shares)
        text = ", ".join([f"{most} comes {first}", *(" ".join(each) for each in rest)])
        *_, together = self.figures[figure]
        low, high = together.interval()
        return (
            f"Of the variance of {figure}, {text} (each varied alone). Where all vary at once, the standard deviation "
            f"is {together.deviation:.2f} pp ({low:.2f} … {high:.2f})."
        )

    def table(self, figure: str) -> tuple[list[str], list[list[str]]]:
        """Return headings and rows: each source, all together as their sum and as they were varied at once."""
        shares, rows = self.shares(figure), []
        for each in self.figures[figure]:
            low, high = each.interval()
            share = f"{100 * shares[each.source]:.0f} %" if each.source in shares else ""
            spread = [f"{each.deviation:.2f}", f"{low:.2f} … {high:.2f}"]
            rows.append([each.source, str(len(each.values)), *spread, share])
        parts = [each.variance for each in self.figures[figure] if each.source != TOGETHER]
        rows.insert(-1, ["sum of these", "", f"{math.sqrt(sum(parts)):.2f}", "", ""])
        return ["source", ">seeds", ">standard deviation", "95 % interval", ">share"], rows

    @property
    def warnings(self) -> list[str]:
        """What a reader has to know beside: whether trainings failed, whose variance is then not that of the others."""
        ended = {each.model.sha256: each.clean.accuracy for own in self.records.values() for each in own}
        failed = failed_trainings(np.array(list(ended.values())), 0)
        if not failed:
            return []
        return [
            f"{len(failed)} of {len(ended)} networks are more than {100 * GAP:.0f} points below the others: trainings "
            "that fail, by chance or for want of epochs, outweigh all that else varies"
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "model": self.model,
            "dataset": self.dataset,
            "warnings": self.warnings,
            "figures": {
                figure: {
                    each.source: {
                        "values": list(each.values),
                        "deviation": each.deviation,
                        "interval": each.interval(),
                        "share": self.shares(figure).get(each.source),
                    }
                    for each in variations
                }
                for figure, variations in self.figures.items()
            },
        }


def find_variance(
    folder: str | Path,
    data: str | DataSettings,
    ticket: Pruning | None = None,
    recipe: str | Recipe = "quick",
    *,
    model: str = "resnet32",
    model_options: Mapping[str, Any] | None = None,
    seeds: Mapping[str, Sequence[int]] | Sequence[int] = range(5),
    attacks: Attacks | None = None,
    device: Device = None,
    work: Work = Work(),
) -> VarianceSources:
    """Train a network over and over with one source of variance at a time, and then with all.

    The folder is that of a sweep, as for :func:`robustprune.run_lottery`: what is done there stays done.

    Args:
        folder: For everything that comes out.
        data: Name of an image set, or how it is loaded.
        ticket: What is trained in place of the dense network.
        recipe: How it is trained.
        model: Name of a network.
        model_options: What its builder takes.
        seeds: Of each source: ``initialization`` (initial weights, and what a criterion samples), ``order`` (of
            training images, with their augmentation), ``split`` (which training images are held out for validation) and
            ``attack`` (random starts); one seed leaves it alone. Or the same seeds for all that can vary.
        attacks: For the variance of robust accuracy.
        device: Where to compute; by default on the processor, where networks are built.
        work: Its progress is told of each stage.

    Raises:
        PruningError: There is no such source, or none is varied.
    """
    settings = data if isinstance(data, DataSettings) else DataSettings(data)
    base = dense_run(settings, Recipe.of(recipe), model, model_options, device, country=None)
    evaluation = Evaluation(attacks=attacks or Attacks())
    base = base.model_copy(update={"pruning": (ticket or base.pruning).check(), "evaluate": evaluation})
    designs = _designs(base, seeds, attacked=attacks is not None and bool(attacks.names))
    runs = [run for own in designs.values() for run in own]
    name = f"variance-{hash_json([run.model_dump(mode='json') for run in runs])[:8]}"
    outcomes = iter(run_here(name, runs, None, folder, work.progress))
    records = {source: tuple(next(outcomes).read() for _ in own) for source, own in designs.items()}
    values = {source: [read_metrics(record) for record in own] for source, own in records.items()}
    known = [metric for metric in values[TOGETHER][0] if metric.group in _GROUPS]
    figures = {_called(metric): _variations(values, metric) for metric in known}
    return VarianceSources(model, records[TOGETHER][0].dataset, figures, records)


def _designs(
    base: RunSettings, seeds: Mapping[str, Sequence[int]] | Sequence[int], *, attacked: bool
) -> dict[str, list[RunSettings]]:
    """Return the runs of each source that varies, and of all at once; all begin with the first seed of each source."""
    possible = SOURCES if attacked else SOURCES[:-1]
    given = seeds if isinstance(seeds, Mapping) else dict.fromkeys(possible, seeds)
    for source, own in given.items():
        if source not in possible or not own:
            others = ", ".join(possible) + ("" if attacked else "; attack where there is one")
            raise PruningError(f"{len(own)} seeds of {source!r} cannot be; there are one or more seeds of {others}")
    start = {source: own[0] for source, own in given.items()}
    varied = {source: list(dict.fromkeys(given.get(source, ()))) for source in possible}
    varied = {source: own for source, own in varied.items() if len(own) > 1}
    if not varied:
        raise PruningError("nothing varies; give at least one source two seeds or more, and better five")
    designs = {source: [_with_seeds(base, {**start, source: seed}) for seed in own] for source, own in varied.items()}
    together = [dict(zip(varied, own, strict=True)) for own in zip(*varied.values(), strict=False)]
    return {**designs, TOGETHER: [_with_seeds(base, {**start, **own}) for own in together]}


def _with_seeds(base: RunSettings, seeds: Mapping[str, int]) -> RunSettings:
    changes: dict[str, Callable[[int], dict[str, Any]]] = {
        "initialization": lambda seed: {"seed": seed},
        "order": lambda seed: {"order_seed": seed},
        "split": lambda seed: {"data": base.data.model_copy(update={"seed": seed})},
        "attack": lambda seed: {"evaluate": base.evaluate.model_copy(update={"seed": seed})},
    }
    return base.model_copy(
        update={name: value for source, seed in seeds.items() for name, value in changes[source](seed).items()}
    )


def _variations(values: Mapping[str, list[Any]], metric: Metric) -> tuple[Variation, ...]:
    return tuple(
        Variation(source, tuple(float(found[metric].value) for found in own))
        for source, own in values.items()
        if all(metric in found and found[metric].problem is None for found in own)
    )


def _called(metric: Metric) -> str:
    return metric.label if metric.group == "accuracy" else f"accuracy under {metric.label}"
