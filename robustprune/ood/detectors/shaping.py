"""Detectors that take the energy after features z, or the last layer W·z + b, were cut down.

`ash` most features are cut to zero and the rest is scaled up, by exp(s₁/s₂) in variant S. s₁ and s₂ are the sums of an
image's features before and after. Variant P only cuts; B gives each that is left the same value, s₁ in all. Djurisic et
al. 2023, "Extremely Simple Activation Shaping for Out-of-Distribution Detection", arXiv:2209.09858; 90 % are cut, as
they do on ImageNet. Made for features of at least 0.

`scale` does not cut anything, and takes for s₂ the sum of an image's largest 15 %. Xu et al. 2024, "Scaling for
Training Time and Post-hoc Out-of-distribution Detection Enhancement", ICLR, arXiv:2310.00227.

`react` W·min(z, c) + b: out-of-distribution images tend to excite a few features far beyond the usual. c is the 90th
percentile of all features of all training images. Sun, Guo & Li 2021, "ReAct: Out-of-distribution Detection With
Rectified Activations", arXiv:2111.12797.

`dice` (M ⊙ W)·z + b: only the weights that matter most for training images are left. Weight w_kd matters by
w_kd · mean(z_d); the least 90 % are cut. Sun & Li 2022, "DICE: Leveraging Sparsification for Out-of-Distribution
Detection", arXiv:2111.09805, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from robustprune.errors import DetectorError
from robustprune.ood.detector import Detector, Options, Share
from robustprune.ood.detectors.certainty import Energy
from robustprune.ood.outputs import LinearHead, Outputs


@dataclass
class ASH(Detector):
    """Energy after features are cut and scaled."""

    percentile: Share = 0.9
    variant: Literal["s", "p", "b"] = "s"
    tried: ClassVar[Options] = {"percentile": (0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)}

    @staticmethod
    def score(features: Tensor, head: LinearHead, percentile: float = 0.9, variant: str = "s") -> Tensor:
        """Return the energy (N,) of features (N, D) after shaping."""
        return Energy.score(head(shape_activations(features, percentile, variant)))


@dataclass
class Scale(Detector):
    """Energy after each image's features are scaled by how concentrated they are."""

    percentile: Share = 0.85
    tried: ClassVar[Options] = ASH.tried

    @staticmethod
    def score(features: Tensor, head: LinearHead, percentile: float = 0.85) -> Tensor:
        """Return the energy (N,) of features (N, D) after scaling."""
        largest = features.topk(_kept(features, percentile), dim=1).values.sum(dim=1, keepdim=True)
        return Energy.score(head(features * (features.sum(dim=1, keepdim=True) / largest).exp()))


@dataclass
class ReAct(Detector):
    """Energy after features are clipped at what is usual."""

    percentile: Annotated[float, Field(ge=0, le=1)] = 0.9
    tried: ClassVar[Options] = {"percentile": (0.85, 0.9, 0.95, 0.99)}

    @staticmethod
    def score(features: Tensor, head: LinearHead, threshold: float) -> Tensor:
        """Return the energy (N,) of features (N, D) clipped at ``threshold``."""
        return Energy.score(head(features.clamp(max=threshold)))

    def fit(self, train: Outputs, held_out: Outputs) -> None:
        """Find the threshold."""
        # torch.quantile takes no more than 16 million numbers.
        self.threshold = float(np.quantile(train.need_features().numpy(), self.percentile))


@dataclass
class DICE(Detector):
    """Energy by the weights that matter most."""

    sparsity: Share = 0.9
    tried: ClassVar[Options] = {"sparsity": (0.1, 0.3, 0.5, 0.7, 0.9)}

    @staticmethod
    def score(features: Tensor, sparse_head: LinearHead) -> Tensor:
        """Return the energy (N,) of features (N, D) by a last layer that `sparsified` returned."""
        return Energy.score(sparse_head(features))

    def fit(self, train: Outputs, held_out: Outputs) -> None:
        """Cut the weights by their contributions on the training images."""
        self.sparse_head = sparsified(train.need_head(), train.need_features().mean(dim=0), self.sparsity)


def shape_activations(features: Tensor, percentile: float, variant: str) -> Tensor:
    """Return features (N, D) of which all but the largest are cut, shaped by variant s, p or b."""
    kept = _kept(features, percentile)
    largest = features.topk(kept, dim=1)
    total = features.sum(dim=1, keepdim=True)
    values = largest.values
    if variant == "b":
        values = (total / kept).expand_as(values)
    elif variant == "s":
        values = values * (total / values.sum(dim=1, keepdim=True)).exp()
    return features.new_zeros(features.shape).scatter(1, largest.indices, values)


def sparsified(head: LinearHead, mean: Tensor, sparsity: float) -> LinearHead:
    """Return the layer with only the weights whose contribution, for a mean feature (D,), is above the quantile."""
    contributions = head.weight * mean
    if not bool(contributions.isfinite().all()):
        raise DetectorError("some weights of the last layer, or features of the training images, are NaN or infinite")
    threshold = float(np.quantile(contributions.numpy(), sparsity))
    return LinearHead(head.weight.where(contributions > threshold, 0), head.bias)


def _kept(features: Tensor, percentile: float) -> int:
    """Return how many features (N, D) of an image are left when a share is cut; at least one."""
    width = features.shape[1]
    return max(1, width - round(width * percentile))
