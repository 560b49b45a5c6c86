"""−mean_{c≠ŷ} [(f_ŷ − f_c) / ‖w_ŷ − w_c‖] / ‖z − μ‖: distance to the decision boundaries, over that to the mean.

The numerator is the Euclidean distance from z to the boundary with class c. Liu & Qin 2024, "Fast Decision
Boundary based Out-of-Distribution Detector", ICML, arXiv:2312.11536.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustprune.inference import LinearHead
from robustprune.ood.detector import Detector
from robustprune.ood.formula import formula
from robustprune.ood.outputs import Outputs


@dataclass
class FDBD(Detector):
    """Mean distance to the decision boundaries, relative to the distance from the mean feature."""

    @formula
    def score(features: Tensor, logits: Tensor, head: LinearHead, mean: Tensor) -> Tensor:
        """Return scores (N,) of features (N, D), logits (N, K) and the mean feature (D,)."""
        best, predicted = logits.max(dim=1)
        # Not by expansion into squares, which loses the distance between rows that are nearly equal.
        distances = torch.cdist(head.weight, head.weight, compute_mode="donot_use_mm_for_euclid_dist")
        between = distances[predicted]  # (N, K)
        is_predicted = logits.new_zeros(logits.shape).scatter_(1, predicted[:, None], 1).bool()
        margins = best[:, None] - logits
        # A class that is ruled out, by a logit of −∞, has no boundary.
        is_left_out = is_predicted | logits.isneginf()
        to_boundary = (margins / between.masked_fill(is_left_out, 1)).masked_fill(is_left_out, 0)
        boundaries = (~is_left_out).sum(dim=1)
        from_mean: Tensor = torch.linalg.vector_norm(features - mean, dim=1)
        return -to_boundary.sum(dim=1) / boundaries / from_mean

    def learn(self, train: Outputs, held_out: Outputs) -> None:
        """Take the mean feature of the training images."""
        self.mean = train.need_features().mean(dim=0)
