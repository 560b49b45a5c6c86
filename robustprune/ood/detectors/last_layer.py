"""Detectors that set features z against the last layer, W·z + b, or a stand-in for it; ŷ is the predicted class.

`fdbd` −mean_{c≠ŷ} [(f_ŷ − f_c) / ‖w_ŷ − w_c‖] / ‖z − μ‖: distance to the decision boundaries, over that to the mean.
The numerator is the Euclidean distance from z to the boundary with class c. Liu & Qin 2024, "Fast Decision Boundary
based Out-of-Distribution Detector", ICML, arXiv:2312.11536.

`gradnorm` −‖z‖₁·Σ_k |p_k − 1/K|: how far one image would move the weights from an even answer. It is the L1 norm, with
respect to W, of the gradient of the cross-entropy between uniform and predicted distribution, (p − 1/K) zᵀ, in closed
form. Huang, Geng & Li 2021, "On the Importance of Gradients for Detecting Distributional Shifts in the Wild",
arXiv:2110.00218.

`she` −z·S_ŷ, S_k the mean feature of the training images of class k that are classified correctly. Zhang et al. 2023,
"Out-of-Distribution Detection based on In-Distribution Data Patterns Memorization with Modern Hopfield Energy", ICLR
(openreview KkazG4lgKL), equation 9.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustprune.errors import DetectorError
from robustprune.ood.detector import Detector
from robustprune.ood.outputs import LinearHead, Outputs


@dataclass
class FDBD(Detector):
    """Mean distance to the decision boundaries, relative to the distance from the mean feature."""

    @staticmethod
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

    def fit(self, train: Outputs, held_out: Outputs) -> None:
        """Take the mean feature of the training images."""
        self.mean = train.need_features().mean(dim=0)


@dataclass
class GradNorm(Detector):
    """L1 norm of the last layer's gradient towards an even answer."""

    @staticmethod
    def score(features: Tensor, logits: Tensor) -> Tensor:
        """Return scores (N,) of features (N, D) and logits (N, K)."""
        unevenness = (logits.softmax(dim=1) - 1 / logits.shape[1]).abs().sum(dim=1)
        return -features.abs().sum(dim=1) * unevenness

    def __call__(self, outputs: Outputs) -> Tensor:
        """Return scores (N,)."""
        outputs.need_head()  # elsewhere the closed form does not hold
        return super().__call__(outputs)


@dataclass
class SHE(Detector):
    """Likeness to the stored pattern of the predicted class."""

    @staticmethod
    def score(features: Tensor, logits: Tensor, patterns: Tensor) -> Tensor:
        """Return −z·S_ŷ (N,) of features (N, D), logits (N, K) and patterns (K, D)."""
        return -(features * patterns[logits.argmax(dim=1)]).sum(dim=1)

    def fit(self, train: Outputs, held_out: Outputs) -> None:
        """Take the mean features of the training images that are classified correctly, by class."""
        features, labels = train.need_features(), train.need_labels()
        is_correct = train.logits.argmax(dim=1) == labels
        classes = train.logits.shape[1]
        sums = torch.zeros(classes, features.shape[1], dtype=features.dtype)
        sums.index_add_(0, labels[is_correct], features[is_correct])
        counts = labels[is_correct].bincount(minlength=classes)
        self.patterns, self.is_missing = sums / counts[:, None], counts == 0

    def __call__(self, outputs: Outputs) -> Tensor:
        """Return scores (N,)."""
        if bool(outputs.logits.isnan().any()):
            raise DetectorError("some logits are NaN, so there is no predicted class")
        is_predicted = outputs.logits.argmax(dim=1).bincount(minlength=len(self.is_missing)) > 0
        without = (is_predicted & self.is_missing).nonzero().flatten().tolist()
        if without:
            classes = ", ".join(map(str, without))
            raise DetectorError(f"images are taken for class {classes}, of which no training image is recognized")
        return super().__call__(outputs)
