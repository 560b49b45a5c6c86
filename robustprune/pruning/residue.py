"""What is left of a removed block, and the module that leaves it."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import AfterValidator
from torch import nn

from robustprune.errors import PruningError

_LEAF = re.compile(r"(identity|relu|zero)(?: of (\w+(?:\.\w+)*))?")


def check_residue(residue: str) -> str:
    """Return a residue if it is one.

    Raises:
        ValueError: It is none.
    """
    try:
        _parsed(ast.literal_eval(residue) if residue.startswith(("(", "[", "{")) else residue)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"{residue!r} does not say what remains of a block: identity, relu or zero") from error
    return residue


Residue = Annotated[str, AfterValidator(check_residue)]
"""What a removed block leaves: ``identity`` (its input), ``relu`` (its final activation) or ``zero`` (nothing, where
its parent adds the input).

The input is the first argument, or the one named behind: ``identity of 1`` is the second, ``identity of hidden`` that
keyword, ``identity of 0.1`` the second value of a tuple that is the first argument. What a block returns in a tuple,
list or dict is written as in Python: ``('identity', None)``.
"""


class RemovedBlock(nn.Module):
    """The gap a removed block leaves: no parameters, no operations but perhaps the final activation.

    It keeps the place, so that ``layer2.3`` is the same block before and after ``layer2.2`` is gone, and
    rewinding can copy weights by name.
    """

    def __init__(self, residue: Residue = "identity") -> None:
        """Leave what a residue says.

        Raises:
            PruningError: It says nothing that could be left.
        """
        super().__init__()
        try:
            self.residue = check_residue(residue)
        except ValueError as error:
            raise PruningError(str(error)) from error
        self._left = _parsed(ast.literal_eval(residue) if residue.startswith(("(", "[", "{")) else residue)

    def forward(self, *values: Any, **keywords: Any) -> Any:
        """Pass on what the residue names; what else the block was called with has no use any more."""
        return _filled(self._left, dict(enumerate(values)) | keywords)

    def extra_repr(self) -> str:
        """Return the residue, for printing."""
        return self.residue


@dataclass(frozen=True)
class _Leaf:
    what: str
    path: tuple[int | str, ...]


def _parsed(residue: Any) -> Any:
    """Return a residue with leaves in place of their texts."""
    if isinstance(residue, str):
        match = _LEAF.fullmatch(residue)
        if match is None:
            raise ValueError(residue)
        return _Leaf(match[1], tuple(int(part) if part.isdigit() else part for part in (match[2] or "0").split(".")))
    if isinstance(residue, (tuple, list)):
        return type(residue)(map(_parsed, residue))
    if isinstance(residue, dict):
        return {key: _parsed(value) for key, value in residue.items()}
    if residue is None or isinstance(residue, (bool, int, float)):
        return residue
    raise ValueError(residue)


def _filled(left: Any, arguments: Mapping[Any, Any]) -> Any:
    if isinstance(left, _Leaf):
        value: Any = arguments
        for part in left.path:
            value = value[part]
        return torch.relu(value) if left.what == "relu" else torch.zeros_like(value) if left.what == "zero" else value
    if isinstance(left, (tuple, list)):
        return type(left)(_filled(each, arguments) for each in left)
    if isinstance(left, dict):
        return {key: _filled(each, arguments) for key, each in left.items()}
    return left
