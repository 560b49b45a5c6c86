"""What a detector is, and the detectors by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from inspect import signature
from math import isfinite
from typing import Any, ClassVar

from torch import Tensor

from robustprune.errors import EvaluationError
from robustprune.ood.outputs import Outputs
from robustprune.registry import Registry, read_tables, suggest

DETECTORS = Registry("detector", "robustprune.detectors", read_tables("ood")["PLUGINS"])

Options = dict[str, tuple[Any, ...]]
"""Values to try, by option."""


class Detector:
    """Scores how far out of a network's distribution images are: larger = further out.

    A detector is a dataclass; its fields are its options. `score`, a static function, is the formula. What of its
    arguments is called ``logits``, ``features`` or ``head`` is taken from the outputs of a network, all others are
    attributes of the detector: options, or what `fit` has learnt. One that looks at something else overrides
    `__call__`. Whatever it cannot compute, it says by raising `DetectorError`; scores that are not finite are found by
    whoever asked for them.
    """

    tried: ClassVar[Options] = {}
    """Values that tuning tries."""
    remark: str | None = None
    """What is odd about how it was fitted, for whoever reads its figures."""

    def fit(self, train: Outputs, held_out: Outputs) -> None:
        """Learn what the formula needs; by default nothing.

        Args:
            train: Outputs of the training images as they are, not augmented, with labels, in float64.
            held_out: Outputs of images the network was not trained on, for hyper-parameters, likewise.

        Raises:
            DetectorError: These outputs do not allow it.
        """

    @staticmethod
    def score(*outputs: Any, **options: Any) -> Tensor:
        """Return scores (N,)."""
        raise NotImplementedError

    def __call__(self, outputs: Outputs) -> Tensor:
        """Return scores (N,), differentiable with respect to logits and features.

        Raises:
            DetectorError: These outputs do not allow it.
        """
        given = signature(self.score).parameters
        return self.score(**{name: _TAKEN[name](outputs) if name in _TAKEN else getattr(self, name) for name in given})


_TAKEN: dict[str, Callable[[Outputs], Any]] = {
    "logits": lambda outputs: outputs.logits,
    "features": Outputs.need_features,
    "head": Outputs.need_head,
}


def register_detector(name: str) -> Callable[[type[Detector]], type[Detector]]:
    """Return a decorator that makes a detector known under ``name`` in this process.

    Raises:
        ValueError: The name is taken.
    """
    return DETECTORS.register(name)


def make_detector(name: str) -> Detector:
    """Return a fresh detector, not fitted.

    Args:
        name: A name of ``robustprune list detectors``, with options after a colon: ``knn:k=100``,
            ``ash:variant=b,percentile=0.8``.

    Raises:
        UnknownNameError: There is none of that name.
        EvaluationError: It does not take these options.
    """
    if not isinstance(name, str):
        raise EvaluationError(f"a detector is given by its name, got {name!r}")
    kind: Callable[..., Detector] = DETECTORS.get(name)
    known = detector_options(name)
    # As annotated, which may be a string: a default of 0 does not say which numbers are taken.
    types = {each.name: getattr(each.type, "__name__", each.type) for each in (fields(kind) if known else ())}  # type: ignore[arg-type]
    options = {}
    for option in filter(None, name.partition(":")[2].split(",")):
        key, equals, text = (part.strip() for part in option.partition("="))
        if key not in known:
            takes = ", ".join(f"{each}={default}" for each, default in known.items()) or "no options"
            raise EvaluationError(f"{name!r}: {option!r} is no option.{suggest(key, known)} It takes: {takes}")
        if not equals:
            example = f"{name.partition(':')[0]}:{key}={known[key]}"
            raise EvaluationError(f"{name!r}: {key} needs a value, as in {example}")
        if key in options:
            raise EvaluationError(f"{name!r}: {key} is given twice")
        try:
            options[key] = _READERS.get(types[key], str)(text)
        except ValueError as error:
            raise EvaluationError(f"{name!r}: {key} takes a number such as {known[key]}, not {text!r}") from error
    return kind(**options)


def detector_options(name: str) -> dict[str, Any]:
    """Return the options of a detector with their defaults.

    Raises:
        UnknownNameError: There is none of that name.
    """
    kind = DETECTORS.get(name)
    known = fields(kind) if hasattr(kind, "__dataclass_fields__") else ()
    return {field.name: field.default for field in known if field.init}


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(text)
    return value


_READERS: dict[Any, Callable[[str], Any]] = {"int": int, "float": _finite}
