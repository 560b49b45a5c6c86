"""What an attack is after, and its books: what it cost, and the best point of each sample so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustprune.attacks.losses import Loss, margin
from robustprune.attacks.norms import over_samples

Score = Callable[[Tensor, Tensor], Tensor]
"""Logits (n, K) of the samples with indices (n,) → (n,), which grows as the goal comes closer."""


def are_predictions(logits: Tensor) -> Tensor:
    """Return (n,) bool, whether logits (n, K) say a class: −∞ masks one, but NaN, +∞ or −∞ alone are an overflow."""
    # The largest of numbers and NaN is NaN.
    return logits.amax(dim=1).isfinite()


@dataclass(frozen=True)
class Goal:
    """What counts as success: to get away from labels (N,), or to targets (N,)."""

    labels: Tensor
    targets: Tensor | None = None

    def is_reached(self, logits: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return (n,) bool for logits (n, K) of the samples ``rows``, of all if None.

        Logits that are `no prediction <are_predictions>` are no success.
        """
        return self.is_reached_by(logits.argmax(dim=1), rows) & are_predictions(logits)

    def is_reached_by(self, predictions: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return (n,) bool for predictions (n,) of the samples ``rows``, of all if None."""
        wanted = self.labels if self.targets is None else self.targets
        wanted = wanted if rows is None else wanted[rows]
        return predictions != wanted if self.targets is None else predictions == wanted

    def score(self, loss: Loss) -> Score:
        """Return what an attack makes grow: the loss of the label, or the negative one of the target."""
        targets = self.targets
        if targets is None:
            return lambda logits, rows: loss(logits, self.labels[rows])
        return lambda logits, rows: -loss(logits, targets[rows])


@dataclass
class Start:
    """When a stage of an attack first asked for them, samples with a usable gradient, and with one of exactly zero."""

    gradients: int = 0
    zeros: int = 0


@dataclass
class Tally:
    """What was spent, and what was odd, over a whole attack; the checks judge by it.

    Attributes:
        forwards: Samples × forward passes.
        gradients: Samples × gradients.
        without_graph: Gradients that could not be had, as the logits do not depend on the input for autograd.
        not_finite: Gradients with NaN or infinity, and logits that are no prediction.
        starts: Stage → its first gradients. An attack of one piece is a stage without a name.
        earlier_seconds: Wall time before an interruption, of an attack that was picked up.
    """

    forwards: int = 0
    gradients: int = 0
    without_graph: int = 0
    not_finite: int = 0
    starts: dict[str, Start] = field(default_factory=dict)
    earlier_seconds: float = 0.0

    def add_start(self, stage: str, start: Start) -> None:
        """Add the first gradients of a stage on some samples."""
        before = self.starts.setdefault(stage, Start())
        before.gradients += start.gradients
        before.zeros += start.zeros

    def add(self, other: Tally) -> None:
        """Add what was spent side by side."""
        for name in ("forwards", "gradients", "without_graph", "not_finite"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for stage, start in other.starts.items():
            self.add_start(stage, start)
        self.earlier_seconds = max(self.earlier_seconds, other.earlier_seconds)


class Ledger:
    """The point kept of each sample: at first the image, then the best, or the last, that was asked about.

    Of a network that draws at random the logits are means of several passes, and no point breaks a sample for good:
    a few passes that all go wrong by luck would end the search at a point that is mostly classified rightly. The
    search goes on to its end, and the best point is that of the largest margin of the mean logits, whatever loss
    leads there, as the parts of an ensemble aim at different classes.

    Attributes:
        points: (N, …) what would be returned now.
        logits: (N, K) at those points.
        is_broken: (N,) bool, whether those points reach the goal.
        first_broken: (N,) int64, the query that first broke the sample; 0 before any, −1 none. Of means, the
            query of the point kept.
        stage: (N,) int64, the stage in which that was; −1 none.
        asked: (N,) int64, queries that computed the sample.
    """

    def __init__(
        self, images: Tensor, goal: Goal, clean_logits: Tensor, selection: str, single: Tensor | None = None
    ) -> None:
        """Open the books with the images (N, …) themselves and their logits (N, K).

        Where all logits are means of several passes, ``single`` are those of the one that has the last word.
        """
        self.points = images.clone()
        self.logits = clean_logits.clone()
        self.is_broken = goal.is_reached(clean_logits if single is None else single)
        self._is_of_means = single is not None
        self.first_broken = torch.where(self.is_broken, 0, -1)
        self.stage = torch.full_like(self.first_broken, -1)
        self.asked = torch.zeros_like(self.first_broken)
        self._goal, self._selection = goal, selection

    def record(self, rows: Tensor, points: Tensor, logits: Tensor, score: Score, query: int, stage: int) -> None:
        """Enter what the model said of the samples ``rows`` (n,) at points (n, …): logits (n, K).

        "best" keeps a point that reaches the goal over one that does not, then the one of higher score. The
        logits are kept rather than the scores, so that an attack may change its loss on the way.
        """
        is_broken, was_broken = self._goal.is_reached(logits, rows), self.is_broken[rows]
        if self._is_of_means:
            is_broken, score = was_broken, self._goal.score(margin)
        if self._selection == "last":
            taken = torch.ones_like(is_broken)
        else:
            is_higher = score(logits, rows) > score(self.logits[rows], rows)
            taken = are_predictions(logits) & ((is_broken & ~was_broken) | ((is_broken == was_broken) & is_higher))
        first = taken if self._is_of_means else is_broken & (self.first_broken[rows] < 0)
        entries: list[tuple[Tensor, Tensor, Tensor | int]] = [
            (self.points, taken, points),
            (self.logits, taken, logits),
            (self.is_broken, taken, is_broken),
            (self.first_broken, first, query),
            (self.stage, first, stage),
        ]
        for book, chosen, value in entries:
            # Not book[rows[chosen]], as the device would have to be waited for to know how many are chosen.
            before = book[rows]
            book[rows] = torch.where(over_samples(chosen, before), value, before)

    def carry(self, points: Tensor, broken: Tensor) -> None:
        """Take over points (N, …) that an earlier, no wider attack broke samples (N,) with."""
        taken = broken & ~self.is_broken
        self.points[taken] = points[taken]
        self.is_broken |= taken
        self.first_broken[taken] = 0

    def reopen(self, rows: Tensor, points: Tensor, logits: Tensor) -> None:
        """Take samples (N,) for unbroken again, from points (N, …) with their logits (N, K) on."""
        self.is_broken &= ~rows
        self.points[rows], self.logits[rows] = points[rows], logits[rows]
        self.first_broken[rows] = self.stage[rows] = -1
