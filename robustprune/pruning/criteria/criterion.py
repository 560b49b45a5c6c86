"""The contract of a criterion: what blocks, filters and weights are worth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from robustprune.data import ImageData
from robustprune.errors import PruningError
from robustprune.pruning.blocks import Block


class Criterion(BaseModel, ABC):
    """An importance, higher = keep; its fields are its options.

    Every criterion scores blocks. One that has no meaning for single filters or weights says why in
    ``no_filter_scores`` or ``no_weight_scores`` and leaves the method as it is here. The model is never
    changed: what has to be is done to a copy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    no_filter_scores: ClassVar[str] = "it is defined for whole blocks only"
    no_weight_scores: ClassVar[str] = "it judges what comes out of a layer, not the weights in it"
    weight_rounds: ClassVar[int] = 1  # of scoring and masking single weights, unless said otherwise

    @abstractmethod
    def score(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, float]:
        """Return {block name: importance}."""

    def filter_scores(self, model: nn.Module, layers: Sequence[str], data: ImageData, seed: int) -> dict[str, Tensor]:
        """Return {layer: importance of each filter (filters,)} for the convolutions called ``layers``.

        Raises:
            PruningError: The criterion has no meaning for filters.
        """
        raise PruningError(f"{type(self).__name__} does not score filters: {self.no_filter_scores}")

    def weight_scores(self, model: nn.Module, data: ImageData, seed: int) -> dict[str, Tensor]:
        """Return {parameter: importance of each weight} for all convolutions and linear layers, in their shapes.

        Raises:
            PruningError: The criterion has no meaning for weights.
        """
        raise PruningError(f"{type(self).__name__} does not score weights: {self.no_weight_scores}")
