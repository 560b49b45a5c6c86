"""What blocks are worth: one criterion a file, each from a formula and its paper.

A criterion is a pydantic model whose fields are its options, with a method
``score(model, blocks, data, seed) -> {block name: importance}``; higher means keep. Register one with
``@CRITERIA.register("name")`` or through the entry-point group ``robustprune.criteria``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pydantic import ValidationError
from torch import nn

from robustprune.data import ImageData
from robustprune.errors import PruningError
from robustprune.pruning.blocks import Block
from robustprune.registry import Registry, suggest

CRITERIA = Registry(
    "criterion",
    "robustprune.criteria",
    {
        "snip": "robustprune.pruning.criteria.snip:Snip",
        "grasp": "robustprune.pruning.criteria.grasp:Grasp",
        "random": "robustprune.pruning.criteria.random_order:RandomOrder",
    },
)


class Criterion(Protocol):
    """What a criterion has to offer."""

    def score(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, float]:
        """Return {block name: importance}, higher = keep, without changing the model."""

    def model_dump(self) -> dict[str, Any]:
        """Return the options as they are in force."""


def make_criterion(name: str, **options: Any) -> Criterion:
    """Return the criterion ``name`` with the given options.

    Raises:
        UnknownNameError: No criterion of that name.
        PruningError: An option it does not have, a value it cannot take, or a combination that means nothing.
    """
    criterion = CRITERIA.get(name)
    try:
        return criterion(**options)  # type: ignore[no-any-return]
    except ValidationError as error:
        raise PruningError(f"criterion {name}: {_first_problem(error, criterion)}") from error


def _first_problem(error: ValidationError, criterion: Any) -> str:
    problem = error.errors()[0]
    option = ".".join(map(str, problem["loc"]))
    known = list(criterion.model_fields)
    if problem["type"] == "extra_forbidden":
        takes = f"It takes {', '.join(known)}." if known else "It takes no options."
        return f"there is no option {option!r}.{suggest(option, known)} {takes}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"option {option}={problem['input']!r}: {message}" if option else message
