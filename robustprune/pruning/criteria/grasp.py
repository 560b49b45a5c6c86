r"""GraSP: gradient signal preservation.

.. math:: s(w) = w \cdot (H g)_w, \qquad g = \nabla L, \quad H = \nabla^2 L

Wang, Zhang and Grosse, "Picking winning tickets before training by preserving gradient flow", ICLR 2020
(arXiv:2002.07376), eq. 8. Their score is −θ ⊙ Hg and the highest go; here the sign is turned, so that the
lowest go as with every other criterion. Logits are divided by a temperature of 200 as in the paper, and g and
Hg come from the same batches.

With batch statistics each block's weights are scale-invariant, and Euler's theorem gives Σ w·g = 0 and
−Σ θ·Hg = ‖g‖² over the block: the blocks that go are those with the largest gradient. The first identity is
why the signed variant w·g is refused there: summed or averaged, it is nothing but rounding noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from robustprune.pruning.criteria import Batches
from robustprune.pruning.criteria.saliency import (
    GradientCriterion,
    Saliency,
    gradients,
    loss_shares,
    per_weight,
    summed,
)


class Grasp(GradientCriterion):
    """Gradient signal preservation θ ⊙ Hg on a stratified batch of training images."""

    # What is saved for the backward pass, and as much again and a half for that of the backward pass; measured 2.7.
    copies_of_activations: ClassVar[float] = 3.0

    temperature: Annotated[float, Field(gt=0)] = Field(default=200.0, description="divides the logits before the loss")
    variant: Literal["grasp", "signed"] = Field(
        default="grasp", description="θ ⊙ Hg, or w·g: SNIP that considers the sign"
    )

    @model_validator(mode="after")
    def _is_not_noise(self) -> Self:
        if self.variant == "signed" and self.bn_mode == "batch":
            raise ValueError(
                "variant=signed over a block with batch statistics is rounding noise around zero, summed or averaged "
                "(the weights before a normalization are scale-invariant); add bn_mode=running"
            )
        return self

    def saliency_of(self, network: nn.Module, weights: Mapping[str, Tensor], batches: Batches) -> Saliency:
        """Return θ ⊙ Hg of every weight."""
        step = self.steps(len(batches) * (2 if self.variant == "grasp" else 1))
        shares = partial(loss_shares, network, batches, step, self.temperature)
        gradient = summed(gradients(loss, weights) for loss in shares())
        if self.variant == "grasp":
            # H·g is summed batch by batch as ∂(g_batch · g)/∂θ, so that only one graph is alive at a time.
            curvature = summed(
                gradients(_inner_product(gradients(loss, weights, create_graph=True), gradient), weights)
                for loss in shares()
            )
            # Where the gradient does not depend on a weight, H·g is 0 there.
            gradient = {name: curvature.get(name, slope * 0) for name, slope in gradient.items()}
        return per_weight(gradient, weights, torch.mul)


def _inner_product(first: Saliency, second: Saliency) -> Tensor:
    pairs = {id(slope): (slope, second[name].detach()) for name, slope in first.items()}  # a weight of two names once
    return torch.stack([(one * other).sum() for one, other in pairs.values()]).sum()
