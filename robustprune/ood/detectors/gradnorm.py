"""−‖z‖₁·Σ_k |p_k − 1/K|: how far one image would move the last layer's weights from an even answer.

It is the L1 norm, with respect to W, of the gradient of the cross-entropy between uniform and predicted
distribution, (p − 1/K) zᵀ, in closed form. Huang, Geng & Li 2021, "On the Importance of Gradients for Detecting
Distributional Shifts in the Wild", arXiv:2110.00218.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustprune.ood.detector import Detector
from robustprune.ood.formula import formula
from robustprune.ood.outputs import Outputs


@dataclass
class GradNorm(Detector):
    """L1 norm of the last layer's gradient towards an even answer."""

    @formula
    def score(features: Tensor, logits: Tensor) -> Tensor:
        """Return scores (N,) of features (N, D) and logits (N, K)."""
        unevenness = (logits.softmax(dim=1) - 1 / logits.shape[1]).abs().sum(dim=1)
        return -features.abs().sum(dim=1) * unevenness

    def __call__(self, outputs: Outputs) -> Tensor:
        """Return scores (N,)."""
        outputs.need_head()  # elsewhere the closed form does not hold
        return super().__call__(outputs)
