"""−z·S_ŷ, S_k the mean feature of the training images of class k that are classified correctly, ŷ the prediction.

Zhang et al. 2023, "Out-of-Distribution Detection based on In-Distribution Data Patterns Memorization with
Modern Hopfield Energy", ICLR (openreview KkazG4lgKL), equation 9.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustprune.errors import DetectorError
from robustprune.ood.detector import Detector
from robustprune.ood.formula import formula
from robustprune.ood.outputs import Outputs


@dataclass
class SHE(Detector):
    """Likeness to the stored pattern of the predicted class."""

    @formula
    def score(features: Tensor, logits: Tensor, patterns: Tensor) -> Tensor:
        """Return −z·S_ŷ (N,) of features (N, D), logits (N, K) and patterns (K, D)."""
        return -(features * patterns[logits.argmax(dim=1)]).sum(dim=1)

    def learn(self, train: Outputs, held_out: Outputs) -> None:
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
        is_missing = self.known("is_missing")
        is_predicted = outputs.logits.argmax(dim=1).bincount(minlength=len(is_missing)) > 0
        without = (is_predicted & is_missing).nonzero().flatten().tolist()
        if without:
            classes = ", ".join(map(str, without))
            raise DetectorError(f"images are taken for class {classes}, of which no training image is recognized")
        return super().__call__(outputs)
