"""Maximum softmax probability: −max_k softmax(f)_k; and the largest logit: −max_k f_k.

Hendrycks & Gimpel 2017, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples", arXiv:1610.02136: a
network is less sure of what it does not know. Hendrycks et al. 2022, "Scaling Out-of-Distribution Detection for
Real-World Settings", arXiv:1911.11132: without the softmax, which hides how large the logits are.

A network that is very sure has a probability of 1 to the last digit for many images, which would tie them. So a
billionth of what grows with it and does not end at 1 is added: images rank as the probability would without rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustprune.ood.detector import Detector
from robustprune.ood.formula import formula

_TIE_BREAK = 1e-9


@dataclass
class MSP(Detector):
    """Maximum softmax probability."""

    @formula
    def score(logits: Tensor) -> Tensor:
        """Return −max_k p_k (N,), to a millionth, of logits (N, K); in float64, and without ties by rounding."""
        logits = logits.double()
        # Where one class alone is possible the odds are −∞.
        odds = log_odds_against(logits).clamp(min=torch.finfo(logits.dtype).min)
        return _TIE_BREAK * odds.asinh() - logits.softmax(dim=1).amax(dim=1)


@dataclass
class MaxLogit(Detector):
    """Largest logit."""

    @formula
    def score(logits: Tensor) -> Tensor:
        """Return −max_k f_k (N,) of logits (N, K)."""
        return -logits.amax(dim=1)


def log_odds_against(logits: Tensor) -> Tensor:
    """Return log((1 − p) / p) (N,), p the largest softmax probability of logits (N, K), exact where p rounds to 1."""
    best, predicted = logits.max(dim=1, keepdim=True)
    others = logits.scatter(1, predicted, -torch.inf).logsumexp(dim=1)
    return others - best.squeeze(1)
