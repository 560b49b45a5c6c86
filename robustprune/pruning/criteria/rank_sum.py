r"""Several criteria together: the sum of the ranks that they give.

.. math:: s(b) = \sum_c r_c(b)

with r_c(b) the rank of block b by criterion c among the B blocks: 1 for the least important, B for the most. Blocks
that a criterion finds equally important share the mean of their ranks. Each criterion has the same say, whatever the
scale of its scores; with two of them, sums lie between 2 and 2·B (de Borda 1781).

Named by their names with a plus between: ``grasp+cka``, ``grasp:batch_size=32+cka:samples=100``. An option that is
given apart from the names goes to each of them that takes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field, PrivateAttr
from torch import nn

from robustprune.data import ImageData
from robustprune.pruning.blocks import Block
from robustprune.pruning.criteria import Criterion


class RankSum(Criterion):
    """Sum of the ranks that several criteria give."""

    no_filter_scores: ClassVar[str] = "joined criteria rank blocks only; name one criterion"
    no_weight_scores: ClassVar[str] = no_filter_scores
    no_ticket_scores: ClassVar[str] = "ranks are of blocks against each other; name one criterion"

    parts: dict[str, dict[str, Any]] = Field(description="each criterion, as it was written, with all its options")

    _criteria: dict[str, Criterion] = PrivateAttr(default_factory=dict)

    @classmethod
    def of(cls, criteria: Mapping[str, Criterion]) -> Self:
        """Return the sum of the ranks of criteria, each by its name with its options."""
        found = cls(parts={name: criterion.model_dump() for name, criterion in criteria.items()})
        found._criteria = dict(criteria)
        return found

    def settled(self, name: str, model: nn.Module, data: ImageData, seed: int) -> Self:
        """Return it with each criterion settled."""
        return self.of({each: part.settled(each, model, data, seed) for each, part in self._criteria.items()})

    def score(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, float]:
        """Return the sum of ranks of each block."""
        scores, step = [], self.steps(len(self._criteria))
        for place, criterion in enumerate(self._criteria.values()):
            scores.append(criterion.telling(self._share(place)).score(model, blocks, data, seed))
            step()
        return sum_ranks(scores)

    def _share(self, place: int) -> Callable[[float, float], None] | None:
        """Return what one of the criteria is to tell of its progress."""
        tell, count = self._progress, len(self._criteria)
        return None if tell is None else lambda done, total: tell(place + done / total, count)


def sum_ranks(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the sum of each name's ranks, 1 for the lowest score; NaN throughout where a score is not finite."""
    from scipy.stats import rankdata

    names = list(scores[0])
    table = np.array([[each[name] if math.isfinite(each[name]) else math.nan for name in names] for each in scores])
    return dict(zip(names, map(float, rankdata(table, axis=1).sum(axis=0)), strict=True))
