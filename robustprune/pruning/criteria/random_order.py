"""Random scores: the control every criterion has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from robustprune.data import ImageData
from robustprune.pruning.blocks import Block
from robustprune.pruning.criteria import Criterion
from robustprune.pruning.criteria.saliency import all_weights
from robustprune.pruning.residue import RemovedBlock
from robustprune.runtime.randomness import derive_seed, seeded_generator


class RandomOrder(Criterion):
    """Uniform scores in [0, 1), from the seed alone."""

    def score(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, float]:
        """Return a random importance for each block, which stays the same when others are removed."""
        names = {block.name for block in blocks}
        places = [name for name, module in model.named_modules() if name in names or _was_one(module, blocks[0])]
        draws = np.random.default_rng(derive_seed(seed, "random criterion")).random(len(places))
        drawn = dict(zip(places, map(float, draws), strict=True))
        return {block.name: drawn[block.name] for block in blocks}

    def filter_scores(self, model: nn.Module, layers: Sequence[str], data: ImageData, seed: int) -> dict[str, Tensor]:
        """Return a random importance for each filter."""
        counts = {layer: int(model.get_submodule(layer).out_channels) for layer in layers}  # type: ignore[arg-type]
        return {layer: _draws(torch.Size([count]), seed, "filters", layer) for layer, count in counts.items()}

    def weight_scores(self, model: nn.Module, data: ImageData, seed: int) -> dict[str, Tensor]:
        """Return a random importance for each weight."""
        return {name: _draws(weight.shape, seed, "weights", name) for name, weight in all_weights(model).items()}


def _was_one(module: nn.Module, like: Block) -> bool:
    """Return whether a block, or a branch of one, was removed here; of what goes with a branch, one leaves zeros."""
    return isinstance(module, RemovedBlock) and (like.unit == "block" or "zero" in module.residue)


def _draws(shape: torch.Size, seed: int, *what: str) -> Tensor:
    return torch.rand(shape, generator=seeded_generator(seed, "random criterion", *what))
