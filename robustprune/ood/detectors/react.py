"""Energy of W·min(z, c) + b: out-of-distribution images tend to excite a few features far beyond the usual.

c is the 90th percentile of all features of all training images. Sun, Guo & Li 2021, "ReAct: Out-of-distribution
Detection With Rectified Activations", arXiv:2111.12797.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from torch import Tensor

from robustprune.errors import EvaluationError
from robustprune.ood.detector import Detector, Options
from robustprune.ood.detectors.energy import Energy
from robustprune.ood.outputs import LinearHead, Outputs


@dataclass
class ReAct(Detector):
    """Energy after features are clipped at what is usual."""

    percentile: float = 0.9
    tried: ClassVar[Options] = {"percentile": (0.85, 0.9, 0.95, 0.99)}
    _threshold: float = field(default=float("inf"), init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the options."""
        if not 0 <= self.percentile <= 1:
            raise EvaluationError(f"percentile must be from 0 to 1, got {self.percentile}")

    @staticmethod
    def score(features: Tensor, head: LinearHead, threshold: float) -> Tensor:
        """Return the energy (N,) of features (N, D) clipped at ``threshold``."""
        return Energy.score(head(features.clamp(max=threshold)))

    def fit(self, train: Outputs, held_out: Outputs) -> None:
        """Find the threshold."""
        # torch.quantile takes no more than 16 million numbers.
        self._threshold = float(np.quantile(train.need_features().numpy(), self.percentile))

    def __call__(self, outputs: Outputs) -> Tensor:
        """Return scores (N,)."""
        return self.score(outputs.need_features(), outputs.need_head(), self._threshold)
