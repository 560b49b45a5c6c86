"""Random scores: the control every criterion has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict
from torch import nn

from robustprune.data import ImageData
from robustprune.pruning.blocks import Block
from robustprune.randomness import derive_seed


class RandomOrder(BaseModel):
    """Uniform scores in [0, 1), from the seed alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def score(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, float]:
        """Return a random importance for each block."""
        draws = np.random.default_rng(derive_seed(seed, "random criterion")).random(len(blocks))
        return {block.name: float(draw) for block, draw in zip(blocks, draws, strict=True)}
