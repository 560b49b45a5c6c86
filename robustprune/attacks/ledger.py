"""The books of an attack: what it cost, and the best point of each sample so far."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustprune.attacks.losses import Loss
from robustprune.attacks.settings import Selection


@dataclass
class Tally:
    """What was spent, and what was odd, over a whole attack; the checks judge by it.

    Attributes:
        forwards: Samples × forward passes.
        gradients: Samples × gradients.
        without_graph: Gradients that could not be had, as the logits do not depend on the input for autograd.
        not_finite: Gradients or logits with NaN or infinity.
        first_gradients: Samples with a usable gradient in the first gradient query.
        zero_gradients: Those of them whose gradient is exactly zero.
    """

    forwards: int = 0
    gradients: int = 0
    without_graph: int = 0
    not_finite: int = 0
    first_gradients: int = 0
    zero_gradients: int = 0


class Ledger:
    """The point kept of each sample: at first the image, then the best, or the last, that was asked about.

    Attributes:
        points: (N, …) what would be returned now.
        logits: (N, K) at those points.
        is_broken: (N,) bool, whether those points are misclassified.
        first_broken: (N,) int64, the query that first broke the sample; 0 before any, −1 none.
    """

    def __init__(self, images: Tensor, labels: Tensor, clean_logits: Tensor, selection: Selection) -> None:
        """Open the books with the images (N, …) themselves and their logits (N, K)."""
        self.points = images.clone()
        self.logits = clean_logits.clone()
        self.is_broken = clean_logits.argmax(dim=1) != labels
        self.first_broken = torch.where(self.is_broken, 0, -1)
        self._labels, self._selection = labels, selection

    def record(self, rows: Tensor, points: Tensor, logits: Tensor, loss: Loss, query: int) -> None:
        """Enter what the model said of the samples ``rows`` (n,) at points (n, …): logits (n, K).

        "best" keeps a misclassified point over one that is not, then the one of higher loss. The logits are
        kept rather than the losses, so that an attack may change its loss on the way.
        """
        labels, was_broken = self._labels[rows], self.is_broken[rows]
        # An overflow is not a prediction: a point without one is no success.
        is_finite = logits.isfinite().all(dim=1)
        is_broken = (logits.argmax(dim=1) != labels) & is_finite
        if self._selection == "last":
            taken = torch.ones_like(is_broken)
        else:
            is_higher = loss(logits, labels) > loss(self.logits[rows], labels)
            taken = is_finite & ((is_broken & ~was_broken) | ((is_broken == was_broken) & is_higher))
        self.first_broken[rows[is_broken & (self.first_broken[rows] < 0)]] = query
        kept = rows[taken]
        self.points[kept], self.logits[kept] = points[taken], logits[taken]
        self.is_broken[kept] = is_broken[taken]
