"""Energy after features are clipped: W·min(z, c) + b.

Out-of-distribution images tend to excite a few features far beyond the usual. c is the 90th percentile of all features
of all training images. Sun, Guo & Li 2021, "ReAct: Out-of-distribution Detection With Rectified Activations",
arXiv:2111.12797.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from robustprune.inference import LinearHead
from robustprune.ood.detector import Detector, Options
from robustprune.ood.detectors.energy import Energy
from robustprune.ood.formula import formula
from robustprune.ood.outputs import Outputs


@dataclass
class ReAct(Detector):
    """Energy after features are clipped at what is usual."""

    percentile: Annotated[float, Field(ge=0, le=1)] = 0.9
    tried: ClassVar[Options] = {"percentile": (0.85, 0.9, 0.95, 0.99)}

    @formula
    def score(features: Tensor, head: LinearHead, threshold: float) -> Tensor:
        """Return the energy (N,) of features (N, D) clipped at ``threshold``."""
        return Energy.score(head(features.clamp(max=threshold)))

    def learn(self, train: Outputs, held_out: Outputs) -> None:
        """Find the threshold."""
        # torch.quantile takes no more than 16 million numbers.
        self.threshold = float(np.quantile(train.need_features().numpy(), self.percentile))
