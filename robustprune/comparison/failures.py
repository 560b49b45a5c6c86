"""Trainings that failed, and how many may: by a rule that is fixed beforehand.

A network whose training collapsed is none that a method usually makes. When one training in ten does, Student's
interval from three or five seeds holds the mean over all trainings in less than half of the cases: mostly none is among
the seeds. So the two are reported separately: how often trainings fail, and what those reach that do not.
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
"""In accuracy, between trainings that failed and the next better ones."""
_RARE = 0.01
_MEASURED = {"validation_accuracy": "validation accuracy", "train_accuracy": "training accuracy"}


@dataclass(frozen=True)
class Failures:
    """How many trainings of a group of networks failed.

    Attributes:
        group: Its name.
        seeds: Of those that failed; None for a network that knows none.
        n_networks: All of the group.
        share: Of trainings that failed.
        interval: Of that share among all trainings there could be (Clopper and Pearson 1934, exact).
        odd: Seeds, with their accuracies, that ended far below the others without having failed.
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
        """What is to be said of them."""
        low, high = (100 * end for end in self.interval)
        seeds = ", ".join("unknown" if seed is None else str(seed) for seed in self.seeds)
        failed = f"{len(self.seeds)} of {self.n_networks} trainings failed (seed {seeds})"
        return f"{failed}, which allows a share of {low:.1f} to {high:.1f} %"


def find_failures(group: str, networks: Sequence[Network], confidence: float = 0.95) -> Failures:
    """Return which trainings of a group failed.

    One failed whose accuracy at the end of its training lies less than a tenth of the way from chance to 1, or below a
    gap of more than 0.1 in the accuracies of the group. Networks that differ by their seed leave no such gap between
    one and the next, and it is found however many lie below it. The accuracy is that on the validation and on the
    training images, whichever all records of the group have; where they have neither, as of networks that were trained
    elsewhere, that of the evaluation.
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
    """Yield the failures of each group in several settings together."""
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
    """Return how many failures of so many trainings an interquartile mean leaves out, with seeds enough left over."""
    cut = n_networks // 4
    return cut if n_networks - 2 * cut >= LEAST_SEEDS else 0


def _accuracies(networks: Sequence[Network]) -> Iterator[tuple[str, Floats]]:
    """Yield each accuracy that tells how trainings ended, by name, of all networks (K,)."""
    ends = [network.record.model.history[-1] if network.record.model.history else {} for network in networks]
    known = [name for name in _MEASURED if all(end.get(name) is not None for end in ends)]
    for name in known:
        yield _MEASURED[name], np.array([end[name] for end in ends], dtype=np.float64)
    if not known:
        yield "accuracy", np.array([network.record.clean.accuracy for network in networks])


def failed_trainings(values: Floats, classes: int) -> set[int]:
    """Return where trainings failed that ended with accuracies (K,) on so many classes; 0 where that is not known."""
    failed = values < 1 / classes + 0.1 * (1 - 1 / classes) if classes else np.zeros(len(values), bool)
    best_first = np.sort(values)[::-1]
    gaps = np.flatnonzero(best_first[:-1] - best_first[1:] > GAP)
    if len(gaps):
        failed |= values < best_first[gaps[0]]
    return set(np.flatnonzero(failed).tolist())


def _odd(values: Floats, failed: set[int]) -> list[int]:
    """Return where the lowest of accuracies (K,) that did not fail is an outlier, by Grubbs's test at 1 %.

    Grubbs 1950, "Sample criteria for testing outlying observations": of normal values, one set in a hundred has one.
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
