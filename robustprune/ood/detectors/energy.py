"""−T·log Σ_k exp(f_k / T): the free energy of the logits.

Liu et al. 2020, "Energy-based Out-of-distribution Detection", arXiv:2010.03759, equation 4.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustprune.errors import EvaluationError
from robustprune.ood.detector import Detector
from robustprune.ood.outputs import Outputs


@dataclass
class Energy(Detector):
    """Free energy of the logits."""

    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Check the options."""
        if not self.temperature > 0:
            raise EvaluationError(f"temperature must be positive, got {self.temperature}")

    @staticmethod
    def score(logits: Tensor, temperature: float = 1.0) -> Tensor:
        """Return −T·logsumexp(f / T) (N,) of logits (N, K)."""
        return -temperature * (logits / temperature).logsumexp(dim=1)

    def __call__(self, outputs: Outputs) -> Tensor:
        """Return scores (N,)."""
        return self.score(outputs.logits, self.temperature)
