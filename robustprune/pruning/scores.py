"""Scoring the blocks of a network without leaving a trace in it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from torch import nn

from robustprune.data import ImageData
from robustprune.errors import PruningError
from robustprune.pruning.blocks import find_blocks
from robustprune.pruning.criteria import make_criterion
from robustprune.randomness import isolated_generators


class BlockScores(dict[str, float]):
    """{block name: importance}, higher = keep, with where the numbers came from.

    Attributes:
        criterion: Name of the criterion.
        options: Its options as they were in force.
        seed: The seed of its samples.
        seconds: How long scoring took.
    """

    def __init__(
        self,
        scores: Mapping[str, float],
        *,
        criterion: str,
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
        seconds: float = 0.0,
    ) -> None:
        """Keep the scores and their origin."""
        super().__init__(scores)
        self.criterion = criterion
        self.options = dict(options or {})
        self.seed = seed
        self.seconds = seconds


def score_blocks(
    model: nn.Module, data: ImageData, criterion: str = "grasp", *, seed: int = 0, **options: Any
) -> BlockScores:
    """Return the importance of every block that leaves the identity when it goes; higher = keep.

    The model's weights, buffers, gradients and modes and the process-wide random generators are left as they
    were.

    Args:
        model: A network from :func:`robustprune.build_model`.
        data: The image set; criteria sample its un-augmented training split.
        criterion: Name of a criterion, see ``robustprune list criteria``.
        seed: Decides the sample.
        options: The criterion's options.

    Raises:
        PruningError: No block can go, an option is wrong, or a score is not finite.
    """
    chosen = make_criterion(criterion, **options)
    blocks = [block for block in find_blocks(model) if block.residue is not None]
    start = time.perf_counter()
    with isolated_generators():
        scores = chosen.score(model, blocks, data, seed)
    seconds = time.perf_counter() - start
    for name, score in scores.items():
        if not math.isfinite(score):
            raise PruningError(
                f"criterion {criterion} scored block {name} as {score}; the network's activations or gradients "
                "leave the finite numbers at its current weights, so it cannot be ranked"
            )
    return BlockScores(scores, criterion=criterion, options=chosen.model_dump(), seed=seed, seconds=seconds)
