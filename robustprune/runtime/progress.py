"""How long work tells how far it has come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Progress = Callable[[str, float, float], None]
"""Called with what is being done, how much of it is done, and how much there is."""


class TrainingStep(Protocol):
    """Where a training stands: epochs from 0, steps within one from 1."""

    @property
    def epoch(self) -> int:
        """Epochs that are over."""

    @property
    def epochs(self) -> int:
        """Epochs in all."""

    @property
    def step(self) -> int:
        """Steps of this epoch that are over."""

    @property
    def steps(self) -> int:
        """Steps of an epoch."""


def labelled(progress: Progress | None, label: str) -> Callable[[float, float], None] | None:
    """Return ``progress`` with its label filled in."""
    return None if progress is None else lambda done, total: progress(label, done, total)


def of_training(progress: Progress | None, label: str) -> Callable[[TrainingStep], None] | None:
    """Return what a training is to call after each step, for ``progress`` to be told under a label."""
    if progress is None:
        return None
    return lambda at: progress(label, at.epoch * at.steps + at.step, at.epochs * at.steps)
