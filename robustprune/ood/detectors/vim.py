"""α·‖P⊥ (z − u)‖ − log Σ_k exp f_k: what lies outside the features' main directions, as a logit of its own.

P⊥ projects on the directions in which features of training images, seen from the origin u = −W⁺b, vary least;
α makes the mean of that virtual logit equal the mean of the largest real one. Wang et al. 2022, "ViM:
Out-Of-Distribution with Virtual-logit Matching", arXiv:2203.10807. The number of main directions is theirs:
1000 of at least 2048 features, 512 of at least 768, else half.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustprune.errors import DetectorError
from robustprune.ood.detector import Detector
from robustprune.ood.formula import formula
from robustprune.ood.outputs import Outputs

# Residuals below this share of the features are rounding.
_NOTHING = 1e-9


@dataclass
class ViM(Detector):
    """Virtual logit of what lies outside the features' main directions."""

    dimensions: int = 0  # of the principal space; 0 is the paper's choice by width

    @formula
    def score(features: Tensor, logits: Tensor, origin: Tensor, residual: Tensor, alpha: float) -> Tensor:
        """Return scores (N,) of features (N, D) and logits (N, K).

        ``residual`` (D, R) is an orthonormal basis of the directions of least variation, as seen from ``origin`` (D,).
        """
        virtual: Tensor = alpha * torch.linalg.vector_norm((features - origin) @ residual, dim=1)
        return virtual - logits.logsumexp(dim=1)

    def learn(self, train: Outputs, held_out: Outputs) -> None:
        """Find origin, residual space and scale on the training images."""
        features, head = train.need_features(), train.need_head()
        width = features.shape[1]
        main = self.dimensions or principal_dimensions(width)
        if not 1 <= main < width:
            raise DetectorError(f"{main} main directions of {width} features leave none; use vim:dimensions=N")
        if not bool(head.weight.isfinite().all() and head.bias.isfinite().all()):
            raise DetectorError("some weights of the last layer are NaN or infinite")
        origin = -(torch.linalg.pinv(head.weight) @ head.bias)
        centred = features - origin
        if not bool(centred.isfinite().all() and train.logits.isfinite().all()):
            raise DetectorError("some features or logits of the training images are NaN or infinite")
        # Eigenvalues rise, so the first directions are those of least variation.
        residual = torch.linalg.eigh(centred.T @ centred / len(centred)).eigenvectors[:, : width - main]
        size = float((centred @ residual).norm(dim=1).mean())
        if size <= _NOTHING * float(centred.norm(dim=1).mean()):
            raise DetectorError(
                f"the features of the training images span no more than {main} of {width} dimensions, "
                "so nothing lies outside"
            )
        self.origin, self.residual = origin, residual
        self.alpha = float(train.logits.amax(dim=1).mean()) / size


def principal_dimensions(width: int) -> int:
    """Return how many main directions the paper takes of ``width`` features."""
    if width >= 2048:
        return 1000
    return 512 if width >= 768 else width // 2
