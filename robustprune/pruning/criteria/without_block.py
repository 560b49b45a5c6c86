"""Criteria that compare what a network does with what it does without a block.

The block goes for real, see :func:`robustprune.pruning.remove_blocks`, and nothing else changes: what is compared with
the network is the ticket that has lost this block alone, before any further training.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from robustprune.data import ImageData
from robustprune.errors import PruningError
from robustprune.pruning.blocks import Block
from robustprune.pruning.criteria import Batches, scoring_copy
from robustprune.pruning.criteria.activations import DataCriterion
from robustprune.pruning.surgery import remove_blocks

_ROUNDING = 1e-14  # of a divergence or a squared distance in float64


class RemovalCriterion(DataCriterion):
    """A criterion that runs the images through the network, and once more through what is left without each block."""

    no_filter_scores: ClassVar[str] = (
        "each filter would take a pass over all images of its own, thousands for a ResNet; "
        "use expected_abs or a gradient criterion for filters"
    )
    no_weight_scores: ClassVar[str] = "each weight would take a pass over all images of its own"

    @abstractmethod
    def look(self, network: nn.Module, batches: Batches, step: Callable[[], None], seed: int) -> Any:
        """Return what is compared of a network; ``step`` is called after each batch."""

    @abstractmethod
    def compare(self, whole: Any, without: Any) -> Any:
        """Return the importance of a block, from what is compared of the network with and without it."""

    def score(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, float]:
        """Return the importance of each block."""
        return self.compared(model, blocks, data, seed)

    def compared(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, Any]:
        """Return what `compare` returns, for each block."""
        network, batches = self.prepare(model, data, seed)
        step = self.steps(len(batches) * (1 + len(blocks)))
        whole = self.look(network, batches, step, seed)
        found = {}
        for block in blocks:
            left = remove_blocks(network, block.leaves, example=batches[0][0][:2])
            found[block.name] = self.compare(whole, self.look(left, batches, step, seed))
        return found

    def ticket_scores(self, model: nn.Module, data: ImageData, seed: int) -> Callable[[nn.Module], float]:
        """Return a function from what is left to minus what all that went is worth, as if it were one block."""
        network, batches = self.prepare(model, data, seed)
        whole = self.look(network, batches, self.steps(len(batches)), seed)

        def score(left: nn.Module) -> float:
            own = scoring_copy(left, self.bn_mode)
            return -float(self.compare(whole, self.look(own, batches, self.steps(len(batches)), seed)))

        return score


def refuse_rounding(name: str, scores: Mapping[str, float]) -> None:
    """Refuse scores that are all next to zero.

    Raises:
        PruningError: They are.
    """
    if scores and max(scores.values()) < _ROUNDING:
        raise PruningError(
            f"{name}: without any of its blocks the network says the same to the last digit, so the scores are "
            "rounding noise; its logits are next to nothing at these weights, or its blocks add next to nothing. "
            "Use bn_mode=batch, or a gradient criterion"
        )
