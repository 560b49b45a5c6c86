r"""HRank: the rank of feature maps.

.. math:: s(b) = \frac{1}{N C} \sum_{n, c} \frac{\operatorname{rank}(A_{n,c})}{\max(H, W)}

with A the map (H, W) of channel c on image n at the block's output. Lin et al., "HRank: filter pruning using
high-rank feature map", CVPR 2020 (arXiv:2002.10179); dividing by the side makes stages of different
resolution comparable. The rank counts the singular values above ``tolerance`` times the map's largest one,
a fixed share that lies above the rounding of float32 convolutions and does not change with the side.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from robustprune.errors import PruningError
from robustprune.pruning.criteria.activations import ActivationCriterion, Site


class HRank(ActivationCriterion):
    """Mean rank of the feature maps at the block output, as a share of their side."""

    no_weight_scores: ClassVar[str] = "a rank belongs to a feature map, which a whole filter makes"

    tolerance: Annotated[float, Field(ge=1e-6, lt=1)] = Field(
        default=1e-5, description="singular values up to this share of a map's largest one count as zero"
    )

    def measure(self, features: Tensor, site: Site) -> Tensor:
        """Return rank / max(H, W) of every map of (n, C, H, W)."""
        if features.ndim != 4 or site.channel_dim != 1:
            raise PruningError(
                f"hrank needs feature maps (N, C, H, W); {site.module} returns {tuple(features.shape)}, "
                "tokens or channels-last features. Use expected_abs, pls, kl or a gradient criterion"
            )
        return matrix_ranks(features, self.tolerance) / max(features.shape[2:])


def matrix_ranks(matrices: Tensor, tolerance: float) -> Tensor:
    """Return how many singular values of each matrix (…, H, W) exceed ``tolerance`` times its largest, (…).

    A matrix A is of full rank where A·Aᵀ − (tolerance·‖A‖)²·I, with the Frobenius norm ‖A‖, has a Cholesky
    factor: its smallest singular value then exceeds the tolerance for certain. In float64 that is several
    times as fast as singular values, which are left to the matrices in doubt.
    """
    matrices = matrices if matrices.shape[-2] <= matrices.shape[-1] else matrices.mT
    side = matrices.shape[-2]
    flat = matrices.reshape(-1, *matrices.shape[-2:])
    ranks = torch.full(flat.shape[:1], side, device=flat.device)
    precise = flat.double()
    gram = precise @ precise.mT
    energy = gram.diagonal(dim1=-2, dim2=-1)
    energy.sub_(tolerance**2 * energy.sum(dim=-1, keepdim=True))
    in_doubt = torch.linalg.cholesky_ex(gram).info != 0
    values = torch.linalg.svdvals(flat[in_doubt])
    ranks[in_doubt] = (values > tolerance * values[:, :1]).sum(dim=-1)
    return ranks.reshape(matrices.shape[:-2])
