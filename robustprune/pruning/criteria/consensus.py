r"""Consensus: the ranks of a block by four measures of how its loss changes the features, added up.

Mugnaini, Duarte, Reali Costa and Jordao, "Layer pruning with consensus: a triple-win solution" (arXiv:2411.14345),
combine several measures of similarity between the representations with and without a layer to one. Here these are, of
the penultimate features X (N, D) and Y (N, D) with and without block b, each of them 0 for equal features:

.. math::
    d_1 &= 1 - \operatorname{CKA}(X, Y) \\
    d_2 &= \min_{Q^\top Q = I} \|\hat X Q - \hat Y\|_F^2 = 2 - 2 \|\hat X^\top \hat Y\|_* \\
    d_3 &= \sum_j W_2^2(X_j, Y_j) \Big/ \sum_j \operatorname{Var}(X_j) \\
    d_4 &= \min_W \|X_c - Y_c W\|_F^2 \Big/ \|X_c\|_F^2 = 1 - R^2

with X_c the features less their means over the images, and X̂ = X_c / ‖X_c‖_F. d₁ is the score of the criterion
``cka``. d₂ is the squared orthogonal Procrustes distance (Schönemann 1966; Ding, Denain and Steinhardt 2021,
arXiv:2108.01661), ‖·‖_* the sum of singular values. d₃ is the squared 2-Wasserstein distance between the distributions
of each feature over the images, W₂²(X_j, Y_j) being the mean of (x₍ₙ₎ - y₍ₙ₎)² over sorted values: it alone sees
features shift or grow. d₄ is the share of X that no linear function of Y predicts (Kornblith et al. 2019,
arXiv:1905.00414, table 1); it is 0 of all blocks, and has no say, where there are more features than images. The score
is the sum of the four ranks, 4 to 4·B.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from robustprune.data import ImageData
from robustprune.pruning.blocks import Block
from robustprune.pruning.criteria import Criterion
from robustprune.pruning.criteria.feature_alignment import FeatureCriterion, cka_distance
from robustprune.pruning.criteria.rank_sum import sum_ranks

_Floats = NDArray[np.float64]

# What is left of squared distances between features that have seven digits.
_ROUNDING = 1e-12


class Consensus(FeatureCriterion):
    """Sum of the ranks by CKA, Procrustes, Wasserstein and regression distance of the features without the block."""

    no_ticket_scores: ClassVar[str] = "it ranks blocks against each other; use cka"

    def compare(self, whole: Tensor, without: Tensor) -> tuple[float, ...]:
        """Return the four distances."""
        first, second = whole.numpy(), without.numpy()
        distances = (
            cka_distance(whole, without),
            procrustes_distance(first, second),
            wasserstein_distance(first, second),
            unpredicted_share(first, second),
        )
        return tuple(0.0 if distance < _ROUNDING else distance for distance in distances)

    def score(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, float]:
        """Return the sum of ranks of each block."""
        found = self.compared(model, blocks, data, seed)
        return sum_ranks([{name: each[place] for name, each in found.items()} for place in range(4)])

    ticket_scores = Criterion.ticket_scores


def procrustes_distance(first: _Floats, second: _Floats) -> float:
    """Return d₂ of two sets of features (N, D), in [0, 2]."""
    first, second = (each / np.linalg.norm(each) for each in map(_centred, (first, second)))
    return 2 - 2 * float(np.linalg.svd(first.T @ second, compute_uv=False).sum())


def wasserstein_distance(first: _Floats, second: _Floats) -> float:
    """Return d₃ of two sets of features (N, D), from 0 on."""
    apart = np.square(np.sort(first, axis=0) - np.sort(second, axis=0)).mean(axis=0)
    return float(apart.sum() / first.var(axis=0).sum())


def unpredicted_share(first: _Floats, second: _Floats) -> float:
    """Return d₄, the share of the first features (N, D) that no linear function of the second predicts, in [0, 1]."""
    first, second = _centred(first), _centred(second)
    directions, sizes, _ = np.linalg.svd(second, full_matrices=False)
    # What a feature that never varies, or copies others, adds is the rounding of the rest.
    directions = directions[:, sizes > 1e-6 * sizes[0]]
    return float(np.square(first - directions @ (directions.T @ first)).sum() / np.square(first).sum())


def _centred(features: _Floats) -> _Floats:
    centred: _Floats = features - features.mean(axis=0)
    return centred
