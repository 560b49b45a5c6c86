"""Free energy of the logits: −T·log Σ_k exp(f_k / T).

Liu et al. 2020, "Energy-based Out-of-distribution Detection", arXiv:2010.03759, equation 4.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustprune.ood.detector import Detector, Positive
from robustprune.ood.formula import formula


@dataclass
class Energy(Detector):
    """Free energy of the logits."""

    temperature: Positive = 1.0

    @formula
    def score(logits: Tensor, temperature: float = 1.0) -> Tensor:
        """Return −T·logsumexp(f / T) (N,) of logits (N, K)."""
        return -temperature * (logits / temperature).logsumexp(dim=1)
