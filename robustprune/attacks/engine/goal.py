"""What an attack is after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from robustprune.attacks.losses import Loss

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
