r"""Expected absolute activation.

.. math:: s(b) = \frac{1}{C} \sum_c \mathbb{E}\, |A_c|

with the expectation over images and positions of channel c at the block's output. Tan and Motani, "DropNet:
reducing neural network complexity via iterative pruning", ICML 2020: what is hardly active adds little. Tokens
(N, T, D) and channels-last features are averaged over all positions alike.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from robustprune.pruning.criteria.activations import ActivationCriterion, Site, by_channel


class ExpectedAbs(ActivationCriterion):
    """Mean absolute activation at the block output."""

    no_weight_scores: ClassVar[str] = "an activation belongs to a whole filter"

    def measure(self, features: Tensor, site: Site) -> Tensor:
        """Return the mean absolute value of every channel on every image."""
        return by_channel(features, site).abs().mean(dim=2)
