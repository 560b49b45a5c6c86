"""Energy after most features are cut to zero and the rest is scaled up, by exp(s₁/s₂) in variant S.

s₁ and s₂ are the sums of an image's features before and after. Variant P only cuts; B gives each that is left the
same value, s₁ in all. Djurisic et al. 2023, "Extremely Simple Activation Shaping for Out-of-Distribution
Detection", arXiv:2209.09858; 90 % are cut, as they do on ImageNet. Made for features of at least 0.

`scale` does not cut anything, and takes for s₂ the sum of an image's largest 15 %. Xu et al. 2024, "Scaling for
Training Time and Post-hoc Out-of-distribution Detection Enhancement", ICLR, arXiv:2310.00227.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from robustprune.errors import EvaluationError
from robustprune.ood.detector import Detector, Options
from robustprune.ood.detectors.energy import Energy
from robustprune.ood.outputs import LinearHead, Outputs


@dataclass
class ASH(Detector):
    """Energy after features are cut and scaled."""

    percentile: float = 0.9
    variant: str = "s"
    tried: ClassVar[Options] = {"percentile": (0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)}

    def __post_init__(self) -> None:
        """Check the options."""
        if self.variant not in ("s", "p", "b"):
            raise EvaluationError(f"ash has the variants s, p and b, not {self.variant!r}")
        kept_count(100, self.percentile)

    @staticmethod
    def score(features: Tensor, head: LinearHead, percentile: float = 0.9, variant: str = "s") -> Tensor:
        """Return the energy (N,) of features (N, D) after shaping."""
        return Energy.score(head(shape_activations(features, percentile, variant)))

    def __call__(self, outputs: Outputs) -> Tensor:
        """Return scores (N,)."""
        return self.score(outputs.need_features(), outputs.need_head(), self.percentile, self.variant)


@dataclass
class Scale(Detector):
    """Energy after each image's features are scaled by how concentrated they are."""

    percentile: float = 0.85
    tried: ClassVar[Options] = {"percentile": (0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)}

    def __post_init__(self) -> None:
        """Check the options."""
        kept_count(100, self.percentile)

    @staticmethod
    def score(features: Tensor, head: LinearHead, percentile: float = 0.85) -> Tensor:
        """Return the energy (N,) of features (N, D) after scaling."""
        largest = features.topk(kept_count(features.shape[1], percentile), dim=1).values.sum(dim=1, keepdim=True)
        return Energy.score(head(features * (features.sum(dim=1, keepdim=True) / largest).exp()))

    def __call__(self, outputs: Outputs) -> Tensor:
        """Return scores (N,)."""
        return self.score(outputs.need_features(), outputs.need_head(), self.percentile)


def shape_activations(features: Tensor, percentile: float, variant: str) -> Tensor:
    """Return features (N, D) of which all but the largest are cut, shaped by variant s, p or b."""
    kept = kept_count(features.shape[1], percentile)
    largest = features.topk(kept, dim=1)
    total = features.sum(dim=1, keepdim=True)
    values = largest.values
    if variant == "b":
        values = (total / kept).expand_as(values)
    elif variant == "s":
        values = values * (total / values.sum(dim=1, keepdim=True)).exp()
    return features.new_zeros(features.shape).scatter(1, largest.indices, values)


def kept_count(width: int, percentile: float) -> int:
    """Return how many of ``width`` features are left when a share is cut; at least one."""
    if not 0 <= percentile < 1:
        raise EvaluationError(f"percentile must be at least 0 and below 1, got {percentile}")
    return max(1, width - round(width * percentile))
