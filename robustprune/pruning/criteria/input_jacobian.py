r"""Input Jacobian: how much more the logits move with the image where the block goes.

.. math:: s(b) = \|J_{f_{-b}}\| - \|J_f\|, \qquad
    \|J_f\|^2 = \frac{1}{N} \sum_n \sum_k \left\| \frac{\partial f_k(x_n)}{\partial x_n} \right\|_2^2

with f the logits (K,) of an image x in [0, 1], f₋b those of the network without block b, and ‖J‖ the root of the mean
squared Frobenius norm of the Jacobian. To first order a small change δ of an image, uniform over directions, moves the
logits by ‖J‖·‖δ‖ / √(C·H·W) in the root mean square, and Hoffman, Roberts and Yaida, "Robust learning with Jacobian
regularization" (arXiv:1908.02729), make networks robust by training ‖J‖² down. So a block without which ‖J‖ is larger
damps changes and is to stay, and one without which ‖J‖ is smaller amplifies them and goes first: the ticket that is
left moves least. A smaller ‖J‖ may also come from smaller logits throughout, which makes no network more robust; the
norm alone does not tell.

With as many projections as classes, or more, the norm is exact, by one backward pass for each class. With fewer,

.. math:: \|J_f\|^2 \approx \frac{K}{P N} \sum_{n, p}
    \left\| \frac{\partial (v_{np} \cdot f(x_n))}{\partial x_n} \right\|_2^2

with P directions v for each image, uniform on the unit sphere, as in their algorithm, which is unbiased. The directions
are the same for the network and whatever is left of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import sqrt
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from robustprune.errors import PruningError
from robustprune.models import frozen_parameters, logits_of
from robustprune.pruning.criteria import Batches
from robustprune.pruning.criteria.without_block import RemovalCriterion
from robustprune.runtime.randomness import seeded_generator


class InputJacobian(RemovalCriterion):
    """Growth of the norm of the logits' Jacobian with respect to the image where the block goes; for robustness."""

    # What is saved for the backward pass, and what passes back through one layer.
    copies_of_activations: ClassVar[float] = 1.25

    bn_mode: Literal["running"] = Field(
        default="running", description="by the batch's statistics an image would have no Jacobian of its own"
    )
    samples: Annotated[int, Field(ge=2)] = Field(
        default=128, description="un-augmented training images, classes in proportion"
    )
    projections: Annotated[int, Field(ge=1)] = Field(
        default=10, description="random directions for each image; from the number of classes on, the norm is exact"
    )

    def look(self, network: nn.Module, batches: Batches, step: Callable[[], None], seed: int) -> float:
        """Return the root of the mean squared Frobenius norm."""
        total, count = 0.0, 0
        with frozen_parameters(network), torch.enable_grad():
            for place, (batch, _) in enumerate(batches):
                images = batch.clone().requires_grad_(True)
                logits = logits_of(network, images * 1)  # no leaf, which a network may not write into
                total += self._squared_norm(logits, images, seeded_generator(seed, "jacobian", place))
                count += len(images)
                step()
        return sqrt(total / count)

    def compare(self, whole: float, without: float) -> float:
        """Return how much larger the norm is without the block."""
        return without - whole

    def _squared_norm(self, logits: Tensor, images: Tensor, generator: torch.Generator) -> float:
        """Return the squared Frobenius norm, summed over the images."""
        if not logits.requires_grad:
            raise PruningError(
                "jacobian: no gradient reaches the images, as where the forward pass detaches them or runs under "
                "torch.no_grad; use kl, cka or true_drop"
            )
        total, directions = 0.0, list(self._directions(logits, generator))
        for place, direction in enumerate(directions):
            keep = place + 1 < len(directions)
            (slope,) = torch.autograd.grad(logits, images, direction, retain_graph=keep)
            total += float(slope.double().square().sum())
        return total if self.projections >= logits.shape[1] else total * logits.shape[1] / self.projections

    def _directions(self, logits: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield directions (n, K) in the space of logits: all axes, or random ones of unit length."""
        count, classes = logits.shape
        if self.projections >= classes:
            for axis in torch.eye(classes).to(logits):
                yield axis.expand(count, classes)
            return
        for _ in range(self.projections):
            drawn = torch.randn(count, classes, generator=generator, dtype=torch.float64)
            yield nn.functional.normalize(drawn, dim=1).to(logits)
