"""M_k = (z − μ_k)ᵀ Σ⁻¹ (z − μ_k): squared distance to the nearest class mean, one covariance for all classes.

`mahalanobis` min_k M_k: Lee et al. 2018, arXiv:1807.03888, without input preprocessing or layer ensemble.
`rmd` min_k (M_k − M_0), M_0 to the mean of all images by the covariance of all: Ren et al. 2021,
arXiv:2106.09022, equation 5. Directions in which all images vary, classes or not, then count for nothing.

Covariances are maximum-likelihood ones (divided by N). A billionth of their mean eigenvalue is added to each
eigenvalue: enough to invert the covariance of features that are dead or repeat one another, too little to be
seen elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustprune.errors import DetectorError
from robustprune.ood.detector import Detector
from robustprune.ood.formula import formula
from robustprune.ood.outputs import Outputs

RIDGE = 1e-9


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Means (K, D) and a whitening matrix (D, D): squared Euclidean distances behind it are those wanted."""

    means: Tensor
    whitening: Tensor

    def distances(self, features: Tensor) -> Tensor:
        """Return squared Mahalanobis distances (N, K) of features (N, D)."""
        # Relative to one mean: the squares that are subtracted below stay small.
        points = (features - self.means[0]) @ self.whitening
        means = (self.means - self.means[0]) @ self.whitening
        squares = points.square().sum(dim=1, keepdim=True) + means.square().sum(dim=1)
        return (squares - 2 * points @ means.T).clamp(min=0)


def fit_gaussians(features: Tensor, groups: Tensor) -> Gaussians:
    """Return the means of features (N, D) by group (N,), and their common covariance, whitened.

    Raises:
        DetectorError: Features that are not finite, or do not vary.
    """
    if not bool(features.isfinite().all()):
        raise DetectorError("some features of the training images are NaN or infinite")
    present, members = torch.unique(groups, return_inverse=True)  # a class without images has no mean
    sums = torch.zeros(len(present), features.shape[1], dtype=features.dtype).index_add_(0, members, features)
    means = sums / members.bincount()[:, None]
    centred = features - means[members]
    variances, directions = torch.linalg.eigh(centred.T @ centred / len(features))
    mean_variance = float(variances.mean())
    if not mean_variance > 0:
        raise DetectorError("the features do not vary among training images, so they have no covariance to invert")
    scale = (variances.clamp(min=0) + RIDGE * mean_variance).rsqrt()
    return Gaussians(means, directions * scale)


def remark_on_few(train: Outputs) -> str | None:
    """Return what to say where there are too few training images for a covariance within classes to be of full rank."""
    count, width = train.need_features().shape
    if count - torch.unique(train.need_labels()).numel() >= width:
        return None
    return f"fitted on {count} images, too few for the covariance of {width} features: what they do not span decides"


@dataclass
class Mahalanobis(Detector):
    """Squared Mahalanobis distance to the nearest class mean."""

    @formula
    def score(features: Tensor, classes: Gaussians) -> Tensor:
        """Return min_k M_k (N,) of features (N, D)."""
        return classes.distances(features).amin(dim=1)

    def learn(self, train: Outputs, held_out: Outputs) -> None:
        """Take the class means and the tied covariance of the training images."""
        self.classes = fit_gaussians(train.need_features(), train.need_labels())
        self.remark = remark_on_few(train)


@dataclass
class RelativeMahalanobis(Detector):
    """Mahalanobis distance to the nearest class, less that to all images."""

    @formula
    def score(features: Tensor, classes: Gaussians, background: Gaussians) -> Tensor:
        """Return min_k (M_k − M_0) (N,) of features (N, D)."""
        return (classes.distances(features) - background.distances(features)).amin(dim=1)

    def learn(self, train: Outputs, held_out: Outputs) -> None:
        """Take the Gaussians of the classes and of all training images."""
        features, labels = train.need_features(), train.need_labels()
        self.classes = fit_gaussians(features, labels)
        self.background = fit_gaussians(features, torch.zeros_like(labels))
        self.remark = remark_on_few(train)
