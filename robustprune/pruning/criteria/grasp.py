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

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from robustprune.data import ImageData
from robustprune.pruning.criteria.gradients import GradientCriterion, gradients, loss_shares, summed
from robustprune.pruning.criteria.saliency import Saliency, weights_of
from robustprune.pruning.criteria.sample import scoring_copy


class Grasp(GradientCriterion):
    """Gradient signal preservation θ ⊙ Hg on a stratified batch of training images."""

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

    def weight_scores(self, model: nn.Module, data: ImageData, seed: int) -> Saliency:
        """Return θ ⊙ Hg of every convolution and linear weight; the model is left as it was."""
        network = scoring_copy(model, self.bn_mode)
        batches = self.batches(network, data, seed)
        weights = weights_of(network)
        gradient = summed(gradients(loss, weights) for loss in loss_shares(network, batches, self.temperature))
        if self.variant == "grasp":
            # H·g is summed batch by batch as ∂(g_batch · g)/∂θ, so that only one graph is alive at a time.
            gradient = summed(
                gradients(_inner_product(gradients(loss, weights, create_graph=True), gradient), weights)
                for loss in loss_shares(network, batches, self.temperature)
            )
        return {name: weight.detach() * gradient[name] for name, weight in weights.items()}


def _inner_product(first: Saliency, second: Saliency) -> Tensor:
    return torch.stack([(first[name] * second[name].detach()).sum() for name in first]).sum()
