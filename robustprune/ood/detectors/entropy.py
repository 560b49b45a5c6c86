"""−Σ_k p_k·log p_k, in nats: how evenly a network spreads its belief.

Named as a baseline by Hendrycks & Gimpel 2017 (arXiv:1610.02136); Chan et al. 2021 (arXiv:2012.06575).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustprune.ood.detector import Detector
from robustprune.ood.outputs import Outputs


@dataclass
class Entropy(Detector):
    """Entropy of the softmax."""

    @staticmethod
    def score(logits: Tensor) -> Tensor:
        """Return the entropy (N,) of logits (N, K)."""
        log_p = logits.log_softmax(dim=1)
        # A class that is ruled out, by a logit of −∞, adds nothing.
        return -(log_p.exp() * log_p.clamp(min=torch.finfo(log_p.dtype).min)).sum(dim=1)

    def __call__(self, outputs: Outputs) -> Tensor:
        """Return scores (N,)."""
        return self.score(outputs.logits)
