"""Entropy of the softmax p: −Σ_k p_k·log p_k, in nats; and a generalized one that small p weigh on too.

The entropy: named as a baseline by Hendrycks & Gimpel 2017 (arXiv:1610.02136); Chan et al. 2021 (arXiv:2012.06575).
Σ p^γ (1 − p)^γ over the largest M probabilities: Liu, Lochman & Zach 2023, "GEN: Pushing the Limits of Softmax-Based
Out-of-Distribution Detection", CVPR, equation 4; γ = 0.1, M = 100 on ImageNet and all classes where there are fewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from robustprune.ood.detector import Count, Detector, Options, Positive
from robustprune.ood.detectors.msp import log_odds_against
from robustprune.ood.formula import formula


@dataclass
class Entropy(Detector):
    """Entropy of the softmax."""

    @formula
    def score(logits: Tensor) -> Tensor:
        """Return the entropy (N,) of logits (N, K)."""
        log_p = logits.log_softmax(dim=1)
        # A class that is ruled out, by a logit of −∞, adds nothing.
        return -(log_p.exp() * log_p.clamp(min=torch.finfo(log_p.dtype).min)).sum(dim=1)


@dataclass
class GEN(Detector):
    """Generalized entropy."""

    gamma: Positive = 0.1
    classes: Count = 100
    tried: ClassVar[Options] = {"gamma": (0.01, 0.1, 0.5, 1, 2, 5, 10)}

    @formula
    def score(logits: Tensor, gamma: float = 0.1, classes: int = 100) -> Tensor:
        """Return the generalized entropy (N,) of the ``classes`` most probable ones, from logits (N, K)."""
        log_p = logits.log_softmax(dim=1).topk(min(classes, logits.shape[1]), dim=1).values
        # The largest p may round to 1; the others are ½ at most.
        log_rest = torch.cat([logsigmoid(log_odds_against(logits))[:, None], (-log_p[:, 1:].exp()).log1p()], dim=1)
        return (gamma * (log_p + log_rest)).exp().sum(dim=1)
