"""Energy after most features are cut to zero and the rest is scaled up, by exp(s₁/s₂) in variant S.

s₁ and s₂ are the sums of an image's features before and after. Variant P only cuts; B gives each that is left the same
value, s₁ in all. Djurisic et al. 2023, "Extremely Simple Activation Shaping for Out-of-Distribution Detection",
arXiv:2209.09858; 90 % are cut, as they do on ImageNet. Made for features of at least 0.

`Scale` does not cut anything, and takes for s₂ the sum of an image's largest 15 %. Xu et al. 2024, "Scaling for
Training Time and Post-hoc Out-of-distribution Detection Enhancement", ICLR, arXiv:2310.00227.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from robustprune.inference import LinearHead
from robustprune.ood.detector import Detector, Options, Share
from robustprune.ood.detectors.energy import Energy
from robustprune.ood.formula import formula


@dataclass
class ASH(Detector):
    """Energy after features are cut and scaled."""

    percentile: Share = 0.9
    variant: Literal["s", "p", "b"] = "s"
    tried: ClassVar[Options] = {"percentile": (0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)}

    @formula
    def score(features: Tensor, head: LinearHead, percentile: float = 0.9, variant: str = "s") -> Tensor:
        """Return the energy (N,) of features (N, D) after shaping."""
        return Energy.score(head(shape_activations(features, percentile, variant)))


@dataclass
class Scale(Detector):
    """Energy after each image's features are scaled by how concentrated they are."""

    percentile: Share = 0.85
    tried: ClassVar[Options] = ASH.tried

    @formula
    def score(features: Tensor, head: LinearHead, percentile: float = 0.85) -> Tensor:
        """Return the energy (N,) of features (N, D) after scaling."""
        largest = features.topk(_kept(features, percentile), dim=1).values.sum(dim=1, keepdim=True)
        return Energy.score(head(features * (features.sum(dim=1, keepdim=True) / largest).exp()))


def shape_activations(features: Tensor, percentile: float, variant: str) -> Tensor:
    """Return features (N, D) of which all but the largest are cut, shaped by variant s, p or b."""
    kept = _kept(features, percentile)
    largest = features.topk(kept, dim=1)
    total = features.sum(dim=1, keepdim=True)
    values = largest.values
    if variant == "b":
        values = (total / kept).expand_as(values)
    elif variant == "s":
        values = values * (total / values.sum(dim=1, keepdim=True)).exp()
    return features.new_zeros(features.shape).scatter(1, largest.indices, values)


def _kept(features: Tensor, percentile: float) -> int:
    """Return how many features (N, D) of an image are left when a share is cut; at least one."""
    width = features.shape[1]
    return max(1, width - round(width * percentile))
