r"""KL divergence: what the network says with and without the block.

.. math:: s(b) = \frac{1}{N} \sum_n \sum_k p_{nk} \log \frac{p_{nk}}{q_{nk}}

with p the softmax output of the network and q that of the network without block b. Luo and Wu, "Neural network
pruning with residual-connections and limited-data", CVPR 2020 (arXiv:1911.08114). Both are taken from logits by
log-softmax once; some code in circulation passes probabilities through a second softmax, which flattens them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustprune.data import ImageData
from robustprune.errors import PruningError
from robustprune.models import logits_of
from robustprune.pruning.blocks import Block
from robustprune.pruning.criteria import Batches
from robustprune.pruning.criteria.activations import DataCriterion
from robustprune.pruning.surgery import remove_blocks

_ROUNDING = 1e-14  # of a divergence in float64


class Kl(DataCriterion):
    """KL divergence of the outputs without the block from the network's own."""

    no_filter_scores: ClassVar[str] = (
        "each filter would take a pass over all images of its own, thousands for a ResNet; "
        "use expected_abs or a gradient criterion for filters"
    )
    no_weight_scores: ClassVar[str] = "each weight would take a pass over all images of its own"

    def score(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, float]:
        """Return the mean divergence over the images for each block."""
        network, batches = self.prepare(model, data, seed)
        step = self.steps(len(batches) * (1 + len(blocks)))
        original = _log_probabilities(network, batches, step)
        scores = {}
        for block in blocks:
            assert block.residue is not None, "only blocks that can go are scored"
            left = remove_blocks(network, {block.name: block.residue}, example=batches[0][0][:2])
            without = _log_probabilities(left, batches, step)
            scores[block.name] = float((original.exp() * (original - without)).sum(dim=1).mean())
        if scores and max(scores.values()) < _ROUNDING:
            raise PruningError(
                "kl: without any of its blocks the network says the same to the last digit, so the divergences are "
                "rounding noise; its logits are next to nothing at these weights. Use bn_mode=batch"
            )
        return scores


def _log_probabilities(network: nn.Module, batches: Batches, step: Callable[[], None]) -> Tensor:
    found = []
    with torch.no_grad():
        for images, _ in batches:
            # In float64, since blocks near the identity differ only in the last digits.
            found.append(logits_of(network, images).double().log_softmax(dim=1))
            step()
    return torch.cat(found)
