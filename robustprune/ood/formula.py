"""Formulas of detectors: of the class a function of logits and features, of an object what it makes of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, ParamSpec, Protocol, overload

from torch import Tensor

P = ParamSpec("P")


class _Scorer(Protocol):
    def _score(self, *given: Any, **named: Any) -> Tensor: ...


class formula(Generic[P]):
    """Makes a static function the `score` of a detector.

    ``Energy.score(logits)`` is the function itself; ``Energy(model).score(images)`` runs the network first.
    """

    def __init__(self, function: Callable[P, Tensor]) -> None:
        """Take the function, of which arguments called logits, features and head come from a network."""
        self.function = function
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, detector: None, kind: type) -> Callable[P, Tensor]: ...

    @overload
    def __get__(self, detector: _Scorer, kind: type) -> Callable[..., Tensor]: ...

    def __get__(self, detector: _Scorer | None, kind: type) -> Callable[..., Tensor]:
        """Return the function, of an object the method that fills in what it knows."""
        return self.function if detector is None else detector._score
