r"""SNIP: connection sensitivity.

.. math:: s(w) = \left| w \cdot \frac{\partial L}{\partial w} \right|

Lee, Ajanthan and Torr, "SNIP: Single-shot network pruning based on connection sensitivity", ICLR 2019
(arXiv:1810.02340). The absolute value is taken after the gradients of all batches are summed; a block is worth
the sum over the weights of its convolutions.
"""

from __future__ import annotations

from torch import nn

from robustprune.data import ImageData
from robustprune.pruning.criteria.gradients import GradientCriterion, gradients, loss_shares, summed
from robustprune.pruning.criteria.saliency import Saliency, weights_of
from robustprune.pruning.criteria.sample import scoring_copy


class Snip(GradientCriterion):
    """Connection sensitivity |w · ∂L/∂w| on a stratified batch of training images."""

    def weight_scores(self, model: nn.Module, data: ImageData, seed: int) -> Saliency:
        """Return the sensitivity of every convolution and linear weight; the model is left as it was."""
        network = scoring_copy(model, self.bn_mode)
        batches = self.batches(network, data, seed)
        weights = weights_of(network)
        gradient = summed(gradients(loss, weights) for loss in loss_shares(network, batches))
        return {name: (weight.detach() * gradient[name]).abs() for name, weight in weights.items()}
