"""−max_k f_k: as `msp`, without the softmax, which hides how large the logits are.

Hendrycks et al. 2022, "Scaling Out-of-Distribution Detection for Real-World Settings", arXiv:1911.11132.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustprune.ood.detector import Detector
from robustprune.ood.outputs import Outputs


@dataclass
class MaxLogit(Detector):
    """Largest logit."""

    @staticmethod
    def score(logits: Tensor) -> Tensor:
        """Return −max_k f_k (N,) of logits (N, K)."""
        return -logits.amax(dim=1)

    def __call__(self, outputs: Outputs) -> Tensor:
        """Return scores (N,)."""
        return self.score(outputs.logits)
