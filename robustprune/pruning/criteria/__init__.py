"""What blocks are worth: one criterion a file, each from a formula and its paper.

A criterion is a subclass of :class:`Criterion`: a pydantic model whose fields are its options and whose methods
score blocks, filters and weights; higher means keep. Register one with ``@CRITERIA.register("name")`` or through
the entry-point group ``robustprune.criteria``.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from robustprune.errors import PruningError
from robustprune.pruning.criteria.criterion import Criterion
from robustprune.registry import Registry, read_tables, suggest

__all__ = ["CRITERIA", "Criterion", "criterion_class", "make_criterion"]

CRITERIA = Registry("criterion", "robustprune.criteria", read_tables("pruning/criteria")["PLUGINS"])


def criterion_class(name: str) -> type[Criterion]:
    """Return the criterion ``name``, whose fields are the options it takes.

    Raises:
        UnknownNameError: No criterion of that name.
        PruningError: A plug-in that is no :class:`Criterion`, or a name with an argument, which no criterion takes.
    """
    criterion: Any = CRITERIA.get(name)
    plain, colon, _ = name.partition(":")
    if colon:
        raise PruningError(
            f"the criterion {plain!r} takes no argument after a colon, got {name!r}; "
            "options have a place of their own, --criterion-option NAME=VALUE on the command line"
        )
    if not (isinstance(criterion, type) and issubclass(criterion, Criterion)):
        raise PruningError(
            f"criterion {name} is {criterion!r}, no subclass of robustprune.pruning.Criterion; make it one, so that "
            "its options are checked and it says what it can score"
        )
    return criterion


def make_criterion(name: str, **options: Any) -> Criterion:
    """Return the criterion ``name`` with the given options.

    Raises:
        UnknownNameError: As for :func:`criterion_class`.
        PruningError: Also for an option it does not have, a value it cannot take, or a combination that means nothing.
    """
    criterion = criterion_class(name)
    try:
        return criterion(**options)
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
