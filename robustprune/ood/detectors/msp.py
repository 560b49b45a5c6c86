"""−max_k p_k, p = softmax(f): a network is less sure of what it does not know.

Hendrycks & Gimpel 2017, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples",
arXiv:1610.02136.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustprune.ood.detector import Detector
from robustprune.ood.outputs import Outputs


@dataclass
class Msp(Detector):
    """Maximum softmax probability."""

    @staticmethod
    def score(logits: Tensor) -> Tensor:
        """Return −max_k p_k (N,) of logits (N, K)."""
        return -logits.softmax(dim=1).amax(dim=1)

    def __call__(self, outputs: Outputs) -> Tensor:
        """Return scores (N,)."""
        return self.score(outputs.logits)
