"""Failed trainings, found by a rule that is fixed beforehand.

When one training in ten collapses, three or five seeds mostly contain no collapsed one, and Student's interval then
covers the mean over all trainings in less than half of the cases. So two things are reported separately: how often
trainings fail, and what the other trainings reach.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, stdtrit

from robustprune.comparison.compared_networks import Network
from robustprune.comparison.metric import Floats
from robustprune.metrics.seeds import LEAST_SEEDS

GAP = 0.10
"""Gap in accuracy between the failed trainings and the worst of the others."""
_RARE = 0.01
_MEASURED = {"validation_accuracy": "validation accuracy", "train_accuracy": "training accuracy"}


@dataclass(frozen=True)
class Failures:
    """The failed trainings of a group of networks.

    Attributes:
        group: Name of the group.
        seeds: Seeds of the failed trainings; None for a network without a seed on record.
        n_networks: Number of networks of the group.
        share: Share of trainings that failed.
        interval: Exact confidence interval of the failure rate (Clopper and Pearson 1934).
        odd: Outliers: seeds, with their accuracies, far below the others that did not fail.
    """

    group: str
    seeds: tuple[int | None, ...]
    n_networks: int
    share: float
    interval: tuple[float, float]
    odd: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Return whether any failed."""
        return bool(self.seeds)

    @property
    def text(self) -> str:
        """The failures in words."""
        low, high = (100 * end for end in self.interval)
        seeds = ", ".join("unknown" if seed is None else str(seed) for seed in self.seeds)
        failed = f"{len(self.seeds)} of {self.n_networks} trainings failed (seed {seeds})"
        return f"{failed}; interval of the failure rate {low:.1f} to {high:.1f} %"


def find_failures(group: str, networks: Sequence[Network], confidence: float = 0.95) -> Failures:
    """Return the failed trainings of a group.

    A training failed whose final accuracy lies less than a tenth of the way from chance to 1, or below a gap of more
    than 0.1 in the sorted accuracies of the group: networks that differ only by their seed leave no such gap. The
    accuracies are those on validation and training images, where all records of the group have them; else that of the
    evaluation, as for networks that were trained elsewhere.
    """
    failed: set[int] = set()
    odd: list[str] = []
    classes = max((network.classes or 0 for network in networks), default=0)
    for name, values in _accuracies(networks):
        found = failed_trainings(values, classes)
        failed |= found
        odd += [f"seed {networks[place].seed} ({name} {100 * values[place]:.1f} %)" for place in _odd(values, found)]
    seeds = tuple(networks[place].seed for place in sorted(failed))
    return _failures(group, seeds, len(networks), confidence, odd)


def join_failures(found: Sequence[Sequence[Failures]], confidence: float = 0.95) -> Iterator[Failures]:
    """Yield the failures of each group over all settings."""
    groups: dict[str, list[Failures]] = {}
    for each in itertools.chain.from_iterable(found):
        groups.setdefault(each.group, []).append(each)
    for group, own in groups.items():
        seeds = tuple(seed for each in own for seed in each.seeds)
        yield _failures(group, seeds, sum(each.n_networks for each in own), confidence)


def _failures(group: str, seeds: Sequence[int | None], of: int, confidence: float, odd: Sequence[str] = ()) -> Failures:
    count, alpha = len(seeds), 1 - confidence
    low = float(betaincinv(count, of - count + 1, alpha / 2)) if count else 0.0
    high = float(betaincinv(count + 1, of - count, 1 - alpha / 2)) if count < of else 1.0
    return Failures(group, tuple(seeds), of, count / of, (low, high), tuple(odd))


def spare_trainings(n_networks: int) -> int:
    """Return how many failed trainings an interquartile mean can leave out, with three or more seeds left."""
    cut = n_networks // 4
    return cut if n_networks - 2 * cut >= LEAST_SEEDS else 0


def _accuracies(networks: Sequence[Network]) -> Iterator[tuple[str, Floats]]:
    """Yield name and values (K,) of each accuracy that trainings are judged by."""
    ends = [network.record.model.history[-1] if network.record.model.history else {} for network in networks]
    known = [name for name in _MEASURED if all(end.get(name) is not None for end in ends)]
    for name in known:
        yield _MEASURED[name], np.array([end[name] for end in ends], dtype=np.float64)
    if not known:
        yield "accuracy", np.array([network.record.clean.accuracy for network in networks])


def failed_trainings(values: Floats, classes: int) -> set[int]:
    """Return the indices of the failed trainings, from their accuracies (K,); 0 classes where the number is unknown."""
    failed = values < 1 / classes + 0.1 * (1 - 1 / classes) if classes else np.zeros(len(values), bool)
    best_first = np.sort(values)[::-1]
    gaps = np.flatnonzero(best_first[:-1] - best_first[1:] > GAP)
    if len(gaps):
        failed |= values < best_first[gaps[0]]
    return set(np.flatnonzero(failed).tolist())


def _odd(values: Floats, failed: set[int]) -> list[int]:
    """Return the index of the lowest accuracy (K,) that did not fail, if it is an outlier by Grubbs's test at 1 %.

    Grubbs 1950, "Sample criteria for testing outlying observations"; of normal values, one set in a hundred has one.
    """
    rest = [place for place in range(len(values)) if place not in failed]
    n = len(rest)
    kept = values[rest]
    if n < LEAST_SEEDS or np.ptp(kept) == 0:
        return []
    lowest = (kept.mean() - kept.min()) / kept.std(ddof=1)
    t = float(stdtrit(n - 2, 1 - _RARE / n))
    limit = (n - 1) / math.sqrt(n) * math.sqrt(t**2 / (n - 2 + t**2))
    return [rest[int(kept.argmin())]] if lowest > limit else []
