"""Distance from z/‖z‖ to its k-th nearest neighbour among those of the training images.

Sun et al. 2022, "Out-of-Distribution Detection with Deep Nearest Neighbors", arXiv:2204.06507, section 4;
k = 50 as for CIFAR-10 there, with all 50,000 training images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustprune.errors import DetectorError, EvaluationError
from robustprune.ood.detector import Count, Detector, Options
from robustprune.ood.formula import formula
from robustprune.ood.outputs import Outputs
from robustprune.runtime.randomness import seeded_generator

# Similarities computed at a time.
_BLOCK = 1 << 22


@dataclass
class KNN(Detector):
    """Distance to the k-th nearest training image; a bank larger than ``bank_size`` is thinned at random."""

    k: Count = 50
    bank_size: Count = 50_000
    tried: ClassVar[Options] = {"k": (50, 100, 200, 500, 1000)}

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        if self.k > self.bank_size:
            raise EvaluationError(f"k must be from 1 to bank_size, got {self.k} of {self.bank_size}")

    @formula
    def score(features: Tensor, bank: Tensor, k: int = 50) -> Tensor:
        """Return the k-th smallest distance (N,) between features (N, D) and a bank (M, D), both normalized."""
        points, bank = normalized(features), normalized(bank)
        rows = max(1, _BLOCK // len(bank))
        # Of unit vectors, ‖a − b‖² = 2 − 2·a·b, so the nearest are the most similar.
        similar = [
            (part @ bank.T).topk(k, dim=1, sorted=False).values.amin(dim=1) for part in torch.split(points, rows)
        ]
        return (2 - 2 * torch.cat(similar)).clamp(min=1e-24).sqrt()

    def learn(self, train: Outputs, held_out: Outputs) -> None:
        """Keep the features of the training images."""
        bank = train.need_features()
        if not bool(bank.isfinite().all()):
            raise DetectorError("some features of the training images are NaN or infinite")
        if len(bank) < self.k:
            raise DetectorError(f"{len(bank)} training images have no neighbour number {self.k}; use knn:k={len(bank)}")
        if bool((bank == 0).all(dim=1).any()):
            raise DetectorError("the features of some training images are all zero and have no direction")
        if len(bank) > self.bank_size:
            kept = torch.randperm(len(bank), generator=seeded_generator("knn bank"))[: self.bank_size]
            bank = bank[kept]
        self.bank = normalized(bank)


def normalized(features: Tensor) -> Tensor:
    """Return features (N, D) of length 1; those of length 0 become NaN."""
    length: Tensor = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / length
