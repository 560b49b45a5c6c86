r"""True drop: how much the loss rises where the block goes.

.. math:: s(b) = \frac{1}{N} \sum_n \left( \ell(f_{-b}(x_n), y_n) - \ell(f(x_n), y_n) \right)

with ℓ the cross-entropy in nats, f the network and f₋b the network without block b, nothing trained in between. This is
the *oracle* that Molchanov et al., "Pruning convolutional neural networks for resource efficient inference", ICLR 2017
(arXiv:1611.06440), measure their criteria against: the signed change of the loss (oracle-loss). A block without which
the loss is lower has a negative score. What the network loses after training is another matter.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from robustprune.models import logits_of
from robustprune.pruning.criteria import Batches
from robustprune.pruning.criteria.without_block import RemovalCriterion


class TrueDrop(RemovalCriterion):
    """Rise of the loss where the block goes and nothing is trained."""

    def look(self, network: nn.Module, batches: Batches, step: Callable[[], None], seed: int) -> float:
        """Return the mean cross-entropy over the images, in nats."""
        total, count = 0.0, 0
        with torch.no_grad():
            for images, labels in batches:
                logits = logits_of(network, images).double()
                total += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
                count += len(labels)
                step()
        return total / count

    def compare(self, whole: float, without: float) -> float:
        """Return how much larger the loss is without the block."""
        return without - whole
