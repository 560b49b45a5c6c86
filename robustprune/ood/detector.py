"""What a detector is, and the detectors by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from inspect import signature
from typing import Annotated, Any, ClassVar, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

from robustprune.errors import DetectorError, EvaluationError
from robustprune.ood.outputs import Outputs
from robustprune.registry import Registry, read_tables, suggest

DETECTORS = Registry("detector", "robustprune.detectors", read_tables("ood")["PLUGINS"])

Options = dict[str, tuple[Any, ...]]
"""Values to try, by option."""
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Detector:
    """Scores how far out of a network's distribution images are: larger = further out.

    A detector is a dataclass; its fields are its options, of types that may be annotated as pydantic's. `score`, a
    static function, is the formula. What of its arguments is called ``logits``, ``features`` or ``head`` is taken from
    the outputs of a network, all others are attributes of the detector: options, or what `fit` has learnt. One that
    looks at something else overrides `__call__`. Whatever it cannot compute, it says by raising `DetectorError`; scores
    that are not finite are found by whoever asked for them.
    """

    tried: ClassVar[Options] = {}
    """Values that tuning tries."""
    remark: str | None = None
    """What is odd about how it was fitted, for whoever reads its figures."""

    def __post_init__(self) -> None:
        """Check the options; they may be given as text. One with a check of its own calls this first.

        Raises:
            EvaluationError: An option has a value that it cannot take.
        """
        types = get_type_hints(type(self), include_extras=True)
        for name, value in _options(self).items():
            try:
                read = TypeAdapter(types[name], config=ConfigDict(allow_inf_nan=False)).validate_python(value)
            except ValidationError as error:
                raise EvaluationError(f"{name} cannot be {value!r}: {error.errors()[0]['msg']}") from error
            setattr(self, name, read)

    def fit(self, train: Outputs, held_out: Outputs) -> None:
        """Learn what the formula needs; by default nothing. All outputs are in float64.

        Those of the training images are of the images as they are, not augmented, with labels; ``held_out`` are of
        images the network was not trained on, for hyper-parameters.

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
        if any(name not in _TAKEN and not hasattr(self, name) for name in given):
            raise DetectorError(f"{type(self).__name__} has not been fitted; call its fit first")
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
    """Return a fresh detector, not fitted: ``knn``, or with options ``ash:variant=b,percentile=0.8``.

    Raises:
        UnknownNameError: There is none of that name.
        EvaluationError: It does not take these options.
    """
    if not isinstance(name, str):
        raise EvaluationError(f"a detector is given by its name, got {name!r}")
    kind: Callable[..., Detector] = DETECTORS.get(name)
    known = detector_options(name)
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
        options[key] = text
    try:
        return kind(**options)
    except (EvaluationError, NameError) as error:  # also of a type that only type checkers import
        raise EvaluationError(f"{name!r}: {error}") from error


def detector_options(name: str) -> dict[str, Any]:
    """Return the options of a detector with their defaults."""
    kind = DETECTORS.get(name)
    return _options(kind) if is_dataclass(kind) else {}


def _options(detector: Any) -> dict[str, Any]:
    """Return the options of a detector with their values, or of a class with their defaults."""
    return {each.name: getattr(detector, each.name) for each in fields(detector) if each.init}
