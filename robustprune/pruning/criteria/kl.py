r"""KL divergence: what the network says with and without the block.

.. math:: s(b) = \frac{1}{N} \sum_n \sum_k p_{nk} \log \frac{p_{nk}}{q_{nk}}

with p the softmax output of the network and q that of the network without block b. Luo and Wu, "Neural network
pruning with residual-connections and limited-data", CVPR 2020 (arXiv:1911.08114). Both are taken from logits by
log-softmax once; some code in circulation passes probabilities through a second softmax, which flattens them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from robustprune.data import ImageData
from robustprune.models import logits_of
from robustprune.pruning.blocks import Block
from robustprune.pruning.criteria import Batches
from robustprune.pruning.criteria.without_block import RemovalCriterion, refuse_rounding


class Kl(RemovalCriterion):
    """KL divergence of the outputs without the block from the network's own."""

    def look(self, network: nn.Module, batches: Batches, step: Callable[[], None], seed: int) -> Tensor:
        """Return the log-probabilities (N, K)."""
        found = []
        with torch.no_grad():
            for images, _ in batches:
                # In float64, since blocks near the identity differ only in the last digits.
                found.append(logits_of(network, images).double().log_softmax(dim=1))
                step()
        return torch.cat(found)

    def compare(self, whole: Tensor, without: Tensor) -> float:
        """Return the mean divergence over the images."""
        return float((whole.exp() * (whole - without)).sum(dim=1).mean())

    def score(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, float]:
        """Return the mean divergence over the images for each block."""
        scores = super().score(model, blocks, data, seed)
        refuse_rounding("kl", scores)
        return scores
