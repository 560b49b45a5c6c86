"""Criteria by name, with their options, alone or joined by a plus: ``grasp:batch_size=32+cka``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from robustprune.errors import ModelError, PruningError
from robustprune.models.user_file import load_attribute
from robustprune.pruning.criteria import CRITERIA, Criterion
from robustprune.pruning.criteria.rank_sum import RankSum
from robustprune.registry import read_options, share_options, split_joined, split_options, suggest


def joined_criteria(name: str) -> list[str]:
    """Return the criteria that a name joins, ``grasp:batch_size=32`` and ``cka``; most names are those of one."""
    file = criterion_file(split_options(name)[0])
    return [name] if file is not None and file.is_file() else split_joined(name)


def criterion_file(name: str) -> Path | None:
    """Return the user's own file that a criterion such as ``file:mine.py:Mine`` is in; None for any other."""
    path = name.removeprefix("file:").rpartition(":")[0]
    return Path(path) if name.startswith("file:") or path.endswith(".py") else None


def criterion_files(name: str) -> list[Path]:
    """Return the user's own files that a criterion, or those that it joins, are in."""
    found = (criterion_file(split_options(each)[0]) for each in joined_criteria(name))
    return [file for file in found if file is not None]


def criterion_class(name: str) -> type[Criterion]:
    """Return the criterion ``name``, or the class ``mine.py:Mine`` of a file; its fields are the options it takes."""
    plain, colon, _ = name.partition(":")
    if file := criterion_file(name):
        try:
            criterion: Any = load_attribute(file, name.rpartition(":")[2])
        except ModelError as error:
            raise PruningError(f"criterion {name}: {error}") from error
    else:
        criterion = CRITERIA.get(name)
    if colon and not file:
        raise PruningError(
            f"the criterion {plain!r} takes no argument after a colon, got {name!r}; its options are written "
            f"{plain}:key=value, see `robustprune list criteria`"
        )
    if not (isinstance(criterion, type) and issubclass(criterion, Criterion)):
        raise PruningError(
            f"criterion {name} is {criterion!r}, no subclass of robustprune.pruning.Criterion; make it one, so that "
            "its options are checked and it says what it can score"
        )
    return criterion


def named_criterion(name: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a criterion's name without options, and those given with those written behind it, which count.

    Criteria that are joined keep what is written behind each of them.
    """
    if len(joined_criteria(name)) > 1:
        return name, dict(options)
    plain, own = read_options(name)
    return plain, {**options, **own}


def make_criterion(name: str, **options: Any) -> Criterion:
    """Return the criterion ``name`` with the given options; some may be written behind it, ``grasp:batch_size=32``.

    A name such as ``grasp:batch_size=32+cka`` stands for the sum of ranks, see :mod:`.rank_sum`.

    Raises:
        UnknownNameError: No criterion of that name.
        PruningError: An option it does not have, a value it cannot take, or a combination that means nothing.
    """
    joined = joined_criteria(name)
    if len(joined) > 1:
        return _join(joined, options)
    name, options = named_criterion(name, options)
    criterion = criterion_class(name)
    try:
        return criterion(**options)
    except ValidationError as error:
        raise PruningError(f"criterion {name}: {_first_problem(error, criterion)}") from error


def _join(names: Sequence[str], options: Mapping[str, Any]) -> RankSum:
    """Return the sum of the ranks of criteria.

    Options go to each that takes them; among them may be ``parts``, which has those of each, as `RankSum` has them.
    """
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise PruningError(f"the criterion {twice!r} is joined with itself; name it once")
    recorded = options.get("parts", {})
    rest = {key: value for key, value in options.items() if key != "parts"}
    shares = share_options(
        {name: criterion_class(split_options(name)[0]).model_fields for name in names}, rest, PruningError
    )
    return RankSum.of({name: make_criterion(name, **{**recorded.get(name, {}), **shares[name]}) for name in names})


def _first_problem(error: ValidationError, criterion: Any) -> str:
    problem = error.errors()[0]
    option = ".".join(map(str, problem["loc"]))
    known = list(criterion.model_fields)
    if problem["type"] == "extra_forbidden":
        takes = f"It takes {', '.join(known)}." if known else "It takes no options."
        return f"there is no option {option!r}.{suggest(option, known)} {takes}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"option {option}={problem['input']!r}: {message}" if option else message
