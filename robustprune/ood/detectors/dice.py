"""Energy by the weights that matter most for training images: (M ⊙ W)·z + b.

Weight w_kd matters by w_kd · mean(z_d); the least 90 % are cut. Sun & Li 2022, "DICE: Leveraging Sparsification for
Out-of-Distribution Detection", arXiv:2111.09805, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from robustprune.errors import DetectorError
from robustprune.inference import LinearHead
from robustprune.ood.detector import Detector, Options, Share
from robustprune.ood.detectors.energy import Energy
from robustprune.ood.formula import formula
from robustprune.ood.outputs import Outputs


@dataclass
class DICE(Detector):
    """Energy by the weights that matter most."""

    sparsity: Share = 0.9
    tried: ClassVar[Options] = {"sparsity": (0.1, 0.3, 0.5, 0.7, 0.9)}

    @formula
    def score(features: Tensor, sparse_head: LinearHead) -> Tensor:
        """Return the energy (N,) of features (N, D) by a last layer that `sparsified` returned."""
        return Energy.score(sparse_head(features))

    def learn(self, train: Outputs, held_out: Outputs) -> None:
        """Cut the weights by their contributions on the training images."""
        self.sparse_head = sparsified(train.need_head(), train.need_features().mean(dim=0), self.sparsity)


def sparsified(head: LinearHead, mean: Tensor, sparsity: float) -> LinearHead:
    """Return the layer with only the weights whose contribution, for a mean feature (D,), is above the quantile."""
    contributions = head.weight * mean
    if not bool(contributions.isfinite().all()):
        raise DetectorError("some weights of the last layer, or features of the training images, are NaN or infinite")
    threshold = float(np.quantile(contributions.numpy(), sparsity))
    return LinearHead(head.weight.where(contributions > threshold, 0), head.bias)
