"""The best point of each sample so far."""

from __future__ import annotations

import torch
from torch import Tensor

from robustprune.attacks.engine.goal import Goal, Score, are_predictions
from robustprune.attacks.losses import margin
from robustprune.attacks.norms import over_samples

# Of the largest logit, what another batch or a frozen copy may differ by; of a size, more than float32 loses.
ROUNDING = 1e-5


class BestPoints:
    """The point kept of each sample: at first the image, then the best, or the last, that was asked about.

    Of a network that draws at random the logits are means of several passes, and no point breaks a sample for good:
    a few passes that all go wrong by luck would end the search at a point that is mostly classified rightly. The
    search goes on to its end, and the best point is that of the largest margin of the mean logits, whatever loss
    leads there, as the parts of an ensemble aim at different classes.

    Attributes:
        points: (N, …) what would be returned now.
        logits: (N, K) at those points.
        is_broken: (N,) bool, whether those points reach the goal.
        first_broken: (N,) int64, the query that first broke the sample; 0 before any, −1 none. Of means, and of the
            selection "nearest", the query of the point kept.
        stage: (N,) int64, the stage in which that was; −1 none.
        asked: (N,) int64, queries that computed the sample.
        sizes: (N,) of the perturbations kept of the selection "nearest"; inf where none reached the goal.
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
        self.sizes = torch.full_like(clean_logits[:, 0], torch.inf, dtype=torch.float32)
        self._goal, self._selection = goal, selection

    def record(
        self,
        rows: Tensor,
        points: Tensor,
        logits: Tensor,
        score: Score,
        query: int,
        stage: int,
        *,
        sizes: Tensor | None = None,
    ) -> None:
        """Enter what the model said of the samples ``rows`` (n,) at points (n, …): logits (n, K).

        "best" keeps a point that reaches the goal over one that does not, then the one of higher score; "nearest" the
        one that reaches it with the smallest of the ``sizes`` (n,) of perturbations. The logits are kept rather than
        the scores, so that an attack may change its loss on the way.
        """
        is_broken, was_broken = self._goal.is_reached(logits, rows), self.is_broken[rows]
        if self._is_of_means:
            is_broken, score = was_broken, self._goal.score(margin)
        if sizes is not None:
            # Of the same size but for rounding, the first stays: the other may be larger where more digits are kept.
            is_smaller = sizes < self.sizes[rows] * (1 - ROUNDING)
            taken = is_broken & is_smaller & self._is_clear(logits, rows)
        elif self._selection == "last":
            taken = torch.ones_like(is_broken)
        else:
            is_higher = score(logits, rows) > score(self.logits[rows], rows)
            taken = are_predictions(logits) & ((is_broken & ~was_broken) | ((is_broken == was_broken) & is_higher))
        first = taken if self._is_of_means or sizes is not None else is_broken & (self.first_broken[rows] < 0)
        entries: list[tuple[Tensor, Tensor, Tensor | int]] = [
            (self.points, taken, points),
            (self.logits, taken, logits),
            (self.is_broken, taken, is_broken),
            (self.first_broken, first, query),
            (self.stage, first, stage),
        ]
        if sizes is not None:
            entries.append((self.sizes, taken, sizes))
        for book, chosen, value in entries:
            # Not book[rows[chosen]], as the device would have to be waited for to know how many are chosen.
            before = book[rows]
            book[rows] = torch.where(over_samples(chosen, before), value, before)

    def _is_clear(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return (n,) bool, whether more than rounding decides: the nearest points lie on the boundary."""
        largest = logits.masked_fill(~logits.isfinite(), 0).abs().amax(dim=1)
        return self._goal.score(margin)(logits, rows) > ROUNDING * largest

    def take_over(self, points: Tensor, broken: Tensor) -> None:
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
        self.sizes[rows] = torch.inf
