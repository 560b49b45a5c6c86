"""What a user asks for, as a value: its fields are checked when it is made, and it is handed on whole.

The same class is the argument in Python, the part of a sweep's YAML file, what the command line builds from its
options, what a record keeps, and what an address is hashed from.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from robustprune.errors import RobustPruneError
from robustprune.registry import split_names, suggest

PathText = Annotated[str, BeforeValidator(lambda value: os.fspath(value) if isinstance(value, os.PathLike) else value)]
"""A path, kept as text, which every file can hold."""


def as_list(value: Any) -> Any:
    """Return one value, several in a text with commas, or a list of either as a list of single ones."""
    if isinstance(value, str):
        return [each.strip() for each in value.split(",")]
    if not isinstance(value, Sequence):
        return [value]
    return [each for one in value for each in (as_list(one) if isinstance(one, str) else [one])]


def read_names(value: Any) -> Any:
    """Return plug-ins' names, each with its options, from a text of them or several; what is none stays as it is."""
    if isinstance(value, str):
        return split_names(value) if value.strip() else value
    if isinstance(value, Sequence):
        return [each for one in value for each in (split_names(one) if isinstance(one, str) and one.strip() else [one])]
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(read_names)]
"""Names of plug-ins with their options: ``"pgd:steps=40,fgsm"`` or ``["pgd:steps=40", "fgsm"]``."""


if TYPE_CHECKING:

    class _Value:
        """What type checkers see of pydantic's class: with it they would take the fields for the arguments."""

        model_config: ClassVar[ConfigDict]
        model_fields: ClassVar[dict[str, Any]]
        model_fields_set: set[str]

        def __init__(self, **fields: Any) -> None: ...
        def __iter__(self) -> Iterator[tuple[str, Any]]: ...
        def model_dump(self, **how: Any) -> dict[str, Any]: ...
        def model_copy(self, *, update: Mapping[str, Any]) -> Self: ...
        @classmethod
        def model_json_schema(cls) -> dict[str, Any]: ...

else:
    _Value = BaseModel


class Request(_Value):
    """A frozen value whose first field can be given by position, or stand for all of it.

    ``Attacks(["fgsm", "pgd"], restarts=2)``, ``Attacks.of("pgd")``; where another request holds one, ``attacks: pgd``.

    Attributes:
        FIRST: Name of the field that a bare value stands for.
        REST: Name of a field that takes all keywords that are no fields, such as the options of plug-ins.
        ERROR: What is raised where a value makes no sense.
    """

    # A name such as 2024 is text, whatever YAML takes it for.
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False)

    FIRST: ClassVar[str | None] = None
    REST: ClassVar[str | None] = None
    ERROR: ClassVar[type[RobustPruneError]] = RobustPruneError

    def __init__(self, *first: Any, **fields: Any) -> None:
        """Check the fields.

        Raises:
            RobustPruneError: A field is unknown, or a value makes no sense; of the kind of the room it belongs to.
        """
        if first:
            if self.FIRST is None or len(first) > 1 or self.FIRST in fields:
                raise TypeError(
                    f"{type(self).__name__} takes {self.FIRST or 'nothing'} by position, and the rest by name"
                )
            fields = {self.FIRST: first[0], **fields}
        try:
            super().__init__(**fields)
        except ValidationError as error:
            where, message = first_problem(type(self), error)
            place = _model_at(type(self), [str(part) for part in error.errors()[0]["loc"]])
            kind = place.ERROR if issubclass(place, Request) else self.ERROR
            raise kind(f"{where}: {message}" if where else message) from error

    # Pydantic then checks a request within another one itself, and knows the place of what is wrong in it.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def of(cls, value: Any, **others: Any) -> Self:
        """Return a request as it is, from a mapping of its fields, or from what its first field takes.

        Args:
            value: Any of these.
            others: Fields in place of those that it has.
        """
        if isinstance(value, cls):
            given = {name: getattr(value, name) for name in value.model_fields_set}  # a default may depend on others
            return cls(**{**given, **others}) if others else value
        if isinstance(value, Mapping) and (cls.FIRST is None or not _is_first(cls, value)):
            return cls(**{**value, **others})
        return cls(value, **others)

    def to_plain(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them, without what it cannot, such as a network."""
        return dict(_plain(self.model_dump()))

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, value: Any) -> Any:
        if cls.FIRST is not None and not isinstance(value, cls) and _is_first(cls, value):
            value = {cls.FIRST: value}
        if isinstance(value, Mapping):
            value = cls._read_name(value)
        if cls.REST is not None and isinstance(value, Mapping):
            further = {name: each for name, each in value.items() if name not in cls.model_fields}
            own = {name: each for name, each in value.items() if name in cls.model_fields}
            value = {**own, cls.REST: {**own.get(cls.REST, {}), **further}} if further else own
        return value

    @classmethod
    def _read_name(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the fields with the options that are written behind a name in the place that they have."""
        return given

    @field_validator("*", mode="before")
    @classmethod
    def _is_not_empty(cls, value: Any, info: ValidationInfo) -> Any:
        # An empty path would be the folder one is in, and an empty name comes of a variable that nobody has set.
        annotation = cls.model_fields[str(info.field_name)].annotation
        has_its_own = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        if not has_its_own and info.field_name != "description":
            _refuse_empty(value)
        if isinstance(value, bool) and not {Any, bool} & {annotation, *get_args(annotation)}:
            raise ValueError("it takes no true or false, as yes, no, on and off are in YAML; a text goes in quotes")
        return value


def first_problem(model: type[Any], error: ValidationError) -> tuple[str, str]:
    """Return where the first thing is wrong in what was to be a ``model``, as a path with dots, and what it is."""
    problem = error.errors()[0]
    path = [str(part) for part in problem["loc"] if not str(part).startswith(("function-", "tuple[", "dict["))]
    if problem["type"] == "extra_forbidden":
        *above, name = path
        known = list(_model_at(model, above).model_fields)
        return ".".join(above), f"there is no setting {name!r}.{suggest(name, known)} Known: {', '.join(known)}."
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] != "value_error":  # whoever gives a whole document is not to read it again
        message = f"{message}, not {problem['input']!r:.80}"
    return ".".join(path), message


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        found = {str(name): _plain(each) for name, each in value.items()}
        return {name: each for name, each in found.items() if each is not None or value.get(name) is None}
    if isinstance(value, list | tuple):
        return [each for each in map(_plain, value) if each is not None]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value if isinstance(value, str | int | float | bool) else None


def _is_first(cls: type[Request], value: Any) -> bool:
    """Return whether a value is that of the first field alone: a mapping is, where none of its keys is a field."""
    if not isinstance(value, Mapping):
        return True
    annotation = cls.model_fields[str(cls.FIRST)].annotation
    takes_a_mapping = cls.REST is None and any(get_origin(each) is dict for each in (annotation, *get_args(annotation)))
    return takes_a_mapping and bool(value) and not set(value) & set(cls.model_fields)


def _model_at(model: type[Any], path: list[str]) -> type[Any]:
    for name in path:
        annotation = model.model_fields[name].annotation if name in model.model_fields else None
        candidates = [annotation, *get_args(annotation)]
        model = next((each for each in candidates if isinstance(each, type) and issubclass(each, BaseModel)), model)
    return model


def _refuse_empty(value: Any) -> None:
    if isinstance(value, str) and not value.strip():
        raise ValueError("it is empty; give it a value, or leave it out")
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    for each in inside:
        _refuse_empty(each)
