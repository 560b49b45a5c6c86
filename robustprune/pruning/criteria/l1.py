r"""L1 norm: the mean magnitude of weights.

.. math:: s(b) = \frac{1}{|L_b|} \sum_{\ell \in L_b} \frac{1}{F_\ell} \sum_f \operatorname{mean} |w_{\ell f}|

the mean of |w| of each filter f, averaged over the filters of a convolution, then over the block's convolutions.
Jordao et al., "When layers play the lottery, all tickets win at initialization" (arXiv:2301.10835), appendix A.2.
``reduction=sum`` takes the norm Σ|w| of each filter in place of its mean.

Initialization scales weights by the width of their layer, so the score says in which stage a block is rather
than what it does there: ranked over all stages, whole stages go first. A warning says so where it is the case.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise

from pydantic import Field
from torch import Tensor, nn

from robustprune.data import ImageData
from robustprune.errors import PruningWarning
from robustprune.pruning.blocks import Block
from robustprune.pruning.criteria import Criterion, scoring_copy
from robustprune.pruning.criteria.saliency import (
    Reduction,
    Saliency,
    all_weights,
    per_filter,
    per_weight,
    weights_within,
)
from robustprune.pruning.criteria.used_weights import use_weights


class L1(Criterion):
    """Mean weight magnitude of the block's filters; a ranking by stage more than by block."""

    reduction: Reduction = Field(default="mean", description="over the weights of a filter: mean |w|, or the norm Σ|w|")

    def score(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, float]:
        """Return the mean over each block's convolutions of the mean over their filters."""
        magnitudes = _magnitudes(model)
        scores = {}
        for block in blocks:
            own = weights_within(magnitudes, block)
            means = [float(per_filter(magnitudes, name, model, self.reduction).mean()) for name in own]
            scores[block.name] = sum(means) / len(means)
        _warn_if_ranked_by_stage(scores, blocks)
        return scores

    def filter_scores(self, model: nn.Module, layers: Sequence[str], data: ImageData, seed: int) -> dict[str, Tensor]:
        """Return the mean magnitude, or the norm, of each filter."""
        magnitudes = _magnitudes(model)
        return {layer: per_filter(magnitudes, f"{layer}.weight", model, self.reduction) for layer in layers}

    def weight_scores(self, model: nn.Module, data: ImageData, seed: int) -> dict[str, Tensor]:
        """Return |w| of every convolution and linear weight."""
        magnitudes = _magnitudes(model)
        return {name: magnitudes[name] for name in all_weights(model)}


def _magnitudes(model: nn.Module) -> Saliency:
    weights = use_weights(scoring_copy(model, "running"))
    return per_weight(weights, weights, lambda weight, _: weight.abs())


def _warn_if_ranked_by_stage(scores: Mapping[str, float], blocks: Sequence[Block]) -> None:
    stages: dict[int, list[float]] = {}
    for block in blocks:
        stages.setdefault(block.stage, []).append(scores[block.name])
    ranges = sorted((min(values), max(values), stage) for stage, values in stages.items())
    if len(ranges) > 1 and all(lower[1] < upper[0] for lower, upper in pairwise(ranges)):
        order = ", ".join(str(stage + 1) for *_, stage in ranges)
        warnings.warn(
            f"l1 ranks these blocks by their stage alone: all of one stage score below all of the next, in the "
            f"order {order}, so stage {ranges[0][2] + 1} is always the one that loses blocks",
            PruningWarning,
            stacklevel=2,
        )
