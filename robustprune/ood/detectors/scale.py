"""Energy of W·(z·exp(s₁/s₂)) + b: as `ash`, without cutting anything.

s₁ is the sum of an image's features, s₂ that of its largest 15 %. Xu et al. 2024, "Scaling for Training Time and
Post-hoc Out-of-distribution Detection Enhancement", ICLR, arXiv:2310.00227. Made for features of at least 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from robustprune.ood.detector import Detector, Options
from robustprune.ood.detectors.ash import kept_count
from robustprune.ood.detectors.energy import Energy
from robustprune.ood.outputs import LinearHead, Outputs


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
