r"""CKA: how far the network's features turn away where the block goes.

.. math:: s(b) = 1 - \operatorname{CKA}(Z, Z_{-b})

with Z the penultimate features (N, D), what the last layer receives, and Z₋b those of the network without block b. Pons
et al., "Effective layer pruning through similarity metric perspective", ICPR 2024 (arXiv:2405.17081). With
``between=block``, Z is what goes into the block and Z₋b what comes out, of all positions; it takes one pass instead of
one for each block. CKA is the linear one by the unbiased estimator, see :mod:`robustprune.metrics.cka`: between
networks of all images at once, or of 2048 at a time where there are more; between input and output of each batch, and
averaged. Scores lie in [0, 1], or above by what an unbiased estimate of no alignment falls below zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from robustprune.data import ImageData
from robustprune.errors import PruningError
from robustprune.inference import NO_FEATURES, catching, find_head
from robustprune.metrics import MeanCka, centred_gram, linear_cka
from robustprune.models import logits_of
from robustprune.pruning.blocks import Block
from robustprune.pruning.criteria import Batches
from robustprune.pruning.criteria.block_ends import watching
from robustprune.pruning.criteria.without_block import RemovalCriterion, refuse_rounding

_PROBES = 8  # images that show where the last layer is
_AT_ONCE = 2048  # images whose Gram matrix is taken whole, 34 MB


class FeatureCriterion(RemovalCriterion):
    """A criterion that compares the penultimate features with and without each block."""

    def look(self, network: nn.Module, batches: Batches, step: Callable[[], None], seed: int) -> Tensor:
        """Return the penultimate features (N, D) in float64, on the CPU."""
        found = find_head(network, batches[0][0][:_PROBES])
        if found is None:
            raise PruningError(f"the features with and without a block cannot be compared: {NO_FEATURES}")
        features = []
        with torch.no_grad(), catching(found) as caught:
            for images, _ in batches:
                logits_of(network, images)
                features.append(caught[0].double().cpu())
                step()
        return torch.cat(features)


class Cka(FeatureCriterion):
    """Misalignment, 1 − CKA, of the penultimate features with and without the block."""

    between: Literal["networks", "block"] = Field(
        default="networks",
        description="the features with and without the block, or what goes into the block and what comes out",
    )

    def compare(self, whole: Tensor, without: Tensor) -> float:
        """Return 1 − CKA."""
        return cka_distance(whole, without)

    def score(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, float]:
        """Return 1 − CKA for each block."""
        ask = super().score if self.between == "networks" else self._score_ends
        scores = ask(model, blocks, data, seed)
        refuse_rounding("cka", scores)
        return scores

    def ticket_scores(self, model: nn.Module, data: ImageData, seed: int) -> Callable[[nn.Module], float]:
        """Return a function from what is left to CKA − 1."""
        if self.between == "block":
            raise PruningError("cka:between=block compares the two ends of a block; use between=networks for tickets")
        return super().ticket_scores(model, data, seed)

    def _score_ends(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, float]:
        network, batches = self.prepare(model, data, seed)
        means = {block.name: MeanCka() for block in blocks}

        def see(name: str, given: Tensor, returned: Tensor) -> None:
            means[name].add(centred_gram(given), centred_gram(returned))

        step = self.steps(len(batches))
        with torch.no_grad(), watching(network, blocks, see):
            for images, _ in batches:
                network(images)
                step()
        return {name: misalignment(mean.value) for name, mean in means.items()}


def cka_distance(first: Tensor, second: Tensor) -> float:
    """Return 1 − CKA of two sets of features (N, D); errors as those of `misalignment`."""
    return misalignment(linear_cka(first, second, batch_size=_AT_ONCE))


def misalignment(alignment: float) -> float:
    """Return 1 − CKA.

    Raises:
        PruningError: It is NaN, as features do not vary.
    """
    if math.isnan(alignment):
        raise PruningError(
            "features are the same on all images, with a block or without it, so that there is no alignment between "
            "them; use kl or a gradient criterion"
        )
    return 1 - alignment
