r"""SR-init: how much accuracy is lost where the block's weights are drawn anew.

.. math:: s(b) = \frac{1}{R} \sum_r \left( a(f) - a(f_{b \leftarrow r}) \right)

with a the share of the images that are classified correctly, f the network, and f with b ← r the same with the weights
of block b drawn anew for the r-th time. Tang, Lu and Qi, "SR-init: an interpretable layer pruning method", ICASSP 2023
(arXiv:2303.07677). Each layer of the block draws its weights as it did when it was made, by its own
``reset_parameters``; what no layer draws, such as a layer scale, stays. Running statistics belong to the old weights,
so the block's normalizations use those of the batch.

It is meant for trained networks. One that classifies no better than by always naming the most frequent class has no
accuracy to lose, and is refused: at initialization new weights are as good as the old ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from robustprune.data import ImageData
from robustprune.errors import PruningError
from robustprune.metrics import wilson_interval
from robustprune.models import copy_network, logits_of
from robustprune.pruning.blocks import Block
from robustprune.pruning.calls import running_instead
from robustprune.pruning.criteria import Batches, first_tensor, normalizes_batches
from robustprune.pruning.criteria.activations import DataCriterion
from robustprune.pruning.residue import LAYERS
from robustprune.runtime.randomness import derive_seed, isolated_generators


class Reinitialization(DataCriterion):
    """Accuracy lost where the block's weights are drawn anew; meant for trained networks."""

    draws: Annotated[int, Field(ge=1)] = Field(default=3, description="of new weights for each block")

    def score(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, float]:
        """Return the mean loss of accuracy of each block."""
        network, batches = self.prepare(model, data, seed)
        step = self.steps(len(batches) * (1 + self.draws * len(blocks)))
        correct = _count_correct(network, batches, step)
        labels = torch.cat([labels for _, labels in batches])
        _refuse_guessing(correct, labels.bincount())
        scores = {}
        for block in blocks:
            lost, device = 0, first_tensor(network).device
            for draw in range(self.draws):
                again = {
                    module: drawn_anew(module, name, derive_seed(seed, "sr", name, draw)).to(device).forward
                    for name in block.modules
                    for module in [network.get_submodule(name)]
                }
                with running_instead(again):
                    lost += correct - _count_correct(network, batches, step)
            scores[block.name] = lost / (self.draws * len(labels))
        return scores


def drawn_anew(block: nn.Module, name: str, seed: int) -> nn.Module:
    """Return a copy of a block, called ``name``, on the CPU, with new weights, which it shares with nothing else.

    Its normalizations use the batch's statistics.

    Raises:
        PruningError: A layer of the block has weights that it does not draw itself.
    """
    fresh = copy_network(block).cpu()
    with isolated_generators(seed), torch.no_grad():
        for module in fresh.modules():
            draw = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if callable(draw):
                draw()
            if normalizes_batches(module):
                module.train()
    before = dict(block.named_parameters(remove_duplicate=False))
    for own, layer in fresh.named_modules():
        if isinstance(layer, (*LAYERS, nn.MultiheadAttention)):
            for parameter, weight in layer.named_parameters(prefix=own):
                if weight.ndim > 1 and torch.equal(weight, before[parameter].to(weight.device)):
                    raise PruningError(
                        f"sr: the weights of block {name} cannot be drawn anew, as its layer {own} does not draw "
                        f"{parameter} when it is reset; use true_drop or kl"
                    )
    return fresh


def _count_correct(network: nn.Module, batches: Batches, step: Callable[[], None]) -> int:
    correct = 0
    with torch.no_grad():
        for images, labels in batches:
            correct += int((logits_of(network, images).argmax(dim=1) == labels).sum())
            step()
    return correct


def _refuse_guessing(correct: int, counts: torch.Tensor) -> None:
    """Refuse a network that is not found to be better than the most frequent class, by Wilson's interval of 95 %."""
    total, most = int(counts.sum()), int(counts.max())
    if wilson_interval(correct, total)[0] <= most / total:
        raise PruningError(
            f"sr: the network classifies {correct} of {total} training images correctly, no better than by always "
            f"naming the most frequent class ({most} of {total}), so there is no accuracy to lose; score a trained "
            "network (--after-training, in a sweep at_init: false), or use kl, cka or a gradient criterion"
        )
