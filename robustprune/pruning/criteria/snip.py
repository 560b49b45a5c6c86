r"""SNIP: connection sensitivity.

.. math:: s(w) = \left| w \cdot \frac{\partial L}{\partial w} \right|

Lee, Ajanthan and Torr, "SNIP: Single-shot network pruning based on connection sensitivity", ICLR 2019
(arXiv:1810.02340). The absolute value is taken after the gradients of all batches are summed; a block is worth
the sum over the weights of its convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from robustprune.pruning.criteria.criterion import Batches
from robustprune.pruning.criteria.saliency import (
    GradientCriterion,
    Saliency,
    gradients,
    loss_shares,
    per_weight,
    summed,
)


class Snip(GradientCriterion):
    """Connection sensitivity |w · ∂L/∂w| on a stratified batch of training images."""

    def saliency_of(self, network: nn.Module, weights: Mapping[str, Tensor], batches: Batches) -> Saliency:
        """Return the sensitivity of every weight."""
        gradient = summed(gradients(loss, weights) for loss in loss_shares(network, batches))
        return per_weight(gradient, weights, lambda weight, slope: (weight * slope).abs())
