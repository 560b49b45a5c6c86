"""How the margin of each sample rose on the way of an attack."""

from __future__ import annotations

import math
from collections import deque

import torch
from torch import Tensor

LONGEST_END = 10
"""Queries that are the end of an attack, however many it has (Pintor et al. 2022 in their published code)."""
FEWEST_QUERIES = 3
"""An attack of fewer has one step, which has no course."""


class LossPath:
    """The best margin of each sample so far, now and some queries ago; the margin, whatever loss leads the attack.

    Attributes:
        start: (N,) at the images.
        best: (N,) the largest so far.
        queries: How many there were.
    """

    def __init__(self, start: Tensor) -> None:
        """Start at the margins (N,) of the images."""
        self.start, self.best, self.queries = start, start.clone(), 0
        self._before: deque[Tensor] = deque(maxlen=LONGEST_END)

    @property
    def before(self) -> Tensor:
        """Return (m, N) what `best` was before each of the last queries, oldest first."""
        return torch.stack([*self._before]) if self._before else self.best.new_zeros(0, len(self.best))

    @before.setter
    def before(self, values: Tensor) -> None:
        self._before = deque(values, maxlen=LONGEST_END)

    def begin(self) -> None:
        """Begin another query."""
        self._before.append(self.best.clone())
        self.queries += 1

    def note(self, rows: Tensor, margins: Tensor) -> None:
        """Note the margins (n,) that samples ``rows`` (n,) have at some points."""
        self.best[rows] = torch.fmax(self.best[rows], margins)

    def rise(self) -> Tensor:
        """Return (2, N) how far each best margin rose, in all and over the last tenth of the queries; NaN if few."""
        if self.queries < FEWEST_QUERIES:
            return self.best.new_full((2, len(self.best)), math.nan)
        end = min(math.ceil(self.queries / 10), LONGEST_END)
        return torch.stack([self.best - self.start, self.best - self._before[-end]])
