r"""SynFlow: synaptic flow.

.. math:: s(w) = | w \cdot \frac{\partial R}{\partial w} |, \qquad R = \mathbf{1}^\top f(\mathbf{1}; |\theta|)

Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic flow", NeurIPS 2020
(arXiv:2006.05467). No data: one all-ones input behind the network's own normalization, all parameters
at their absolute values, batch normalization by its running variances. Float64, as R grows exponentially with
depth. Running means are left out, since subtracting them is no path of the signal and would break its sign; the
authors' code takes their absolute values and subtracts them. At initialization they are zero.

Without biases and shortcuts, what flows through every layer is the same (their conservation theorem): each
layer's scores add up to R. A block's share is then smallest where many other paths lead around it.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from robustprune.data import ImageData
from robustprune.errors import PruningError
from robustprune.models import logits_of
from robustprune.models.adapter import Normalize
from robustprune.pruning.criteria import first_tensor, normalizes_batches, scoring_copy
from robustprune.pruning.criteria.saliency import Saliency, WeightCriterion, gradients, per_weight
from robustprune.pruning.criteria.used_weights import use_weights

_INPUT = "the input"  # no parameter's name, which have no spaces


class SynFlow(WeightCriterion):
    """Synaptic flow |w · ∂R/∂w| through the network of absolute weights; needs no data."""

    weight_rounds: ClassVar[int] = 100  # in one alone it takes out whole layers, like the others

    def saliency(self, model: nn.Module, data: ImageData, seed: int) -> Saliency:
        """Return the flow through every weight; the model is left as it was."""
        step = self.steps(1)
        network = scoring_copy(model, "running").double()
        weights = use_weights(network)
        with torch.no_grad():
            for weight in {id(tensor): tensor for tensor in (*network.parameters(), *weights.values())}.values():
                weight.abs_()
            for name, module in network.named_modules():
                _let_flow(name, module)
        ones = first_tensor(network).new_ones(1, data.channels, *data.image_size).requires_grad_(True)
        slopes = gradients(logits_of(network, ones).sum(), {**weights, _INPUT: ones})
        if _INPUT not in slopes or not slopes.pop(_INPUT).any():
            raise PruningError(
                "synflow: nothing flows from input to output, as where activations saturate (ReLU6, sigmoid) under "
                "the all-positive signal, where masks leave no weight on the way, or where the forward pass detaches "
                "it; use a gradient criterion, expected_abs, pls or kl"
            )
        step()
        return per_weight(slopes, weights, lambda weight, slope: (weight * slope).abs())


def _let_flow(name: str, module: nn.Module) -> None:
    """Take out of a module what a positive signal does not pass through unchanged in sign."""
    if isinstance(module, Normalize):
        module.mean.zero_()
        module.std.fill_(1)
    elif normalizes_batches(module) and isinstance(module.running_mean, Tensor):
        module.running_mean.zero_()
    elif isinstance(module, (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)):
        raise PruningError(
            f"synflow has no meaning for {name}: {type(module).__name__} normalizes by the signal itself, so that "
            "nothing flows through it; use a gradient criterion, expected_abs, pls or kl"
        )
