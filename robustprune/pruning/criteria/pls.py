r"""Partial least squares: variable importance in projection.

.. math:: \mathrm{VIP}_j = \sqrt{p \sum_h s_h \hat w_{hj}^2 \Big/ \sum_h s_h}, \qquad s_h = \|t_h\|^2 \|q_h\|^2

with ŵ the unit weight vector of component h, t its scores, q its loadings on the labels and p the number of
variables. Jordao, Lie and Schwartz, "Discriminative layer pruning for convolutional neural networks", IEEE
Journal of Selected Topics in Signal Processing 2020. The variables are the channels of all blocks' outputs, each
averaged over its positions; the responses are the one-hot labels.

All blocks enter one fit. The mean of VIP² over the variables of a fit is 1 by definition, so that a fit for
each block alone would give all of them the same importance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from robustprune.errors import PruningError
from robustprune.pruning.criteria.activations import ActivationCriterion, Site, by_channel

# Of the power method that finds a component: scikit-learn's defaults leave errors of 0.1 % in the importance.
_ITERATIONS, _TOLERANCE = 10_000, 1e-14


class Pls(ActivationCriterion):
    """Importance of the block's pooled channels in one partial least squares fit to the labels."""

    no_weight_scores: ClassVar[str] = "its variables are channels, which whole filters make"

    components: Annotated[int, Field(ge=1)] = Field(default=2, description="of the fit")

    def measure(self, features: Tensor, site: Site) -> Tensor:
        """Return the mean of every channel on every image."""
        return by_channel(features, site).mean(dim=2)

    def importance(self, measures: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Return the VIP of every channel from one joint fit."""
        variables = torch.cat(list(measures.values()), dim=1).numpy()
        classes, positions = np.unique(labels.numpy(), return_inverse=True)
        self._check(variables, len(classes))
        found = importance_in_projection(variables, np.eye(len(classes))[positions], self.components)
        parts = torch.split(torch.from_numpy(found), [values.shape[1] for values in measures.values()])
        return dict(zip(measures, parts, strict=True))

    def _check(self, variables: NDArray[Any], classes: int) -> None:
        if not np.isfinite(variables).all():
            raise PruningError("pls: the network's activations leave the finite numbers, so nothing can be fitted")
        if not np.ptp(variables, axis=0).any():
            raise PruningError("pls: the network's activations are the same on all images, so nothing can be fitted")
        if classes < 2:
            raise PruningError("pls: the sampled images are all of one class, so there is nothing to regress on")
        most = min(len(variables) - 1, variables.shape[1])
        if self.components > most:
            raise PruningError(
                f"pls: {len(variables)} images and {variables.shape[1]} channels allow {most} components, "
                f"not {self.components}; use components={most}"
            )


def importance_in_projection(variables: NDArray[Any], responses: NDArray[Any], components: int) -> NDArray[Any]:
    """Return the VIP (p,) of standardized variables (N, p) for standardized responses (N, K)."""
    from sklearn.cross_decomposition import PLSRegression

    fit = PLSRegression(n_components=components, max_iter=_ITERATIONS, tol=_TOLERANCE).fit(variables, responses)
    explained = np.square(fit.x_scores_).sum(axis=0) * np.square(fit.y_loadings_).sum(axis=0)  # (components,)
    weights = fit.x_weights_ / np.linalg.norm(fit.x_weights_, axis=0)  # (p, components)
    found: NDArray[Any] = np.sqrt(len(weights) * np.square(weights) @ explained / explained.sum())
    return found
