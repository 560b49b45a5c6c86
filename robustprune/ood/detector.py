"""What a detector is, and the detectors by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from inspect import signature
from typing import Annotated, Any, ClassVar, Self, get_type_hints

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

from robustprune.data import ImageData, read_images
from robustprune.errors import DetectorError, EvaluationError
from robustprune.inference import LinearHead
from robustprune.models import as_network, placed
from robustprune.ood.extraction import PROBES, Extractor
from robustprune.ood.formula import formula
from robustprune.ood.outputs import Outputs
from robustprune.ood.running import guarded_detector, scores_of
from robustprune.registry import Registry, read_tables, split_options, suggest
from robustprune.runtime.arrays import to_tensor
from robustprune.runtime.devices import Device

DETECTORS = Registry("detector", "robustprune.detectors", read_tables("ood")["PLUGINS"])

Options = dict[str, tuple[Any, ...]]
"""Values to try, by option."""
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass
class Detector:
    """Scores how far out of a network's distribution images are: larger = further out.

    ``KNN(model, k=10).fit(loader).score(images)``: with a network it takes images, and without one, ``KNN(k=10)``,
    what is known of them: `Outputs`, or the logits and features that the formula takes.

    A detector is a dataclass; its fields are its options, of types that may be annotated as pydantic's. `score`, a
    static function or a `formula`, which is the same to type checkers as well, is the formula. What of its arguments is
    called ``logits``, ``features`` or ``head`` is taken from the outputs of a network, all others are attributes of the
    detector: options, or what `learn` has learnt. One that looks at something else overrides `__call__`. Whatever it
    cannot compute, it says by raising `DetectorError`; scores that are not finite are found by whoever asked for them.

    Attributes:
        model: Maps float images in [0, 1] to logits (N, K); normalization is inside it. It is left as it was, and runs
            as a frozen copy: one made when `fit` is called, else at each call of `score`.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``, … or ``auto``, the fastest there is; by default where
            the network's weights are. The network itself stays where it is.
        remark: What is odd about how it was fitted, for whoever reads its figures.
    """

    model: Any = field(default=None, repr=False, compare=False)
    device: Device = field(default=None, kw_only=True, repr=False, compare=False)
    remark: str | None = field(default=None, init=False, repr=False, compare=False)
    tried: ClassVar[Options] = {}
    """Values that tuning tries."""
    _extractor: Extractor | None = field(default=None, init=False, repr=False, compare=False)

    def __init_subclass__(cls) -> None:
        """Let the formula of a class be what its objects score images by."""
        own = vars(cls).get("score")
        if isinstance(own, staticmethod):
            cls.score = formula(own.__func__)  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        """Check the options; they may be given as text. One with a check of its own calls this first.

        Raises:
            EvaluationError: An option has a value that it cannot take.
        """
        if self.model is not None and not callable(self.model):
            own = type(self).__name__
            raise EvaluationError(
                f"{own} takes a network first, got {self.model!r}; options go by name, such as {own}(model, "
                f"{next(iter(_options(self)), 'option')}=…)"
            )
        types = get_type_hints(type(self), include_extras=True)
        for name, value in _options(self).items():
            try:
                read = TypeAdapter(types[name], config=ConfigDict(allow_inf_nan=False)).validate_python(value)
            except ValidationError as error:
                raise EvaluationError(f"{name} cannot be {value!r}: {error.errors()[0]['msg']}") from error
            setattr(self, name, read)

    @property
    def needs_fitting(self) -> bool:
        """Whether there is something to learn before images can be scored."""
        return type(self).learn is not Detector.learn

    def fit(self, train: Any, held_out: Any = None) -> Self:
        """Learn what the formula needs, if anything, from images the network was trained on; return the detector.

        Args:
            train: Those images as they are, not augmented: an `ImageData`, whose training and validation images are
                taken, or whatever :func:`robustprune.as_data` takes, and images alone where no labels are needed;
                floats are not rounded. Or `Outputs` of them.
            held_out: Images that the network was not trained on, likewise, for hyper-parameters: `Temperature` needs
                some, with labels.

        Raises:
            DetectorError: These images do not allow it: too few, or without the labels that this detector needs.
            DataError: No images, or not in [0, 1], or labels that are no class numbers.
            EvaluationError: Labels that the network has no output for.
            ModelError: The network does not run on them.
        """
        if not isinstance(train, Outputs):
            if isinstance(train, ImageData) and held_out is None and train.val is not None:
                held_out = train.val
            images, labels = read_images(train, "train", labelled=True)
            self._extractor = self._look(images)
            if not self.needs_fitting:
                return self
            train = self._run(self._extractor, images, labels)
            held_out = (
                None if held_out is None else self._run(self._extractor, *read_images(held_out, "val", labelled=True))
            )
        if held_out is None:
            # Only a detector that looks at them can tell that they are missing.
            held_out = train.take(slice(0))
        with guarded_detector(type(self).__name__):
            self.learn(train.double(), held_out.double())
        return self

    def learn(self, train: Outputs, held_out: Outputs) -> None:
        """Learn what the formula needs; by default nothing. All outputs are in float64.

        Those of the training images are of the images as they are, not augmented, with labels; ``held_out`` are of
        images the network was not trained on, for hyper-parameters.

        Raises:
            DetectorError: These outputs do not allow it.
        """

    @formula
    def score(*outputs: Any, **options: Any) -> Tensor:
        """Return scores (N,); of an object with a network, of images (N, …), uint8 or float in [0, 1]."""
        raise NotImplementedError

    def _score(self, *given: Any, **named: Any) -> Tensor:
        """Return scores (N,) float64 on the CPU of images, or what the formula makes of the tensors it takes.

        ``given`` are images, or `Outputs`, or what the formula takes, of which options and what was learnt are known.

        Raises:
            DetectorError: It has not been fitted, cannot compute them, or some are not finite.
            DataError: No images, or not in [0, 1].
            ModelError: The network does not run on them.
        """
        own, function = type(self).__name__, type(self).score
        if len(given) == 1 and not named and isinstance(given[0], Outputs):
            return scores_of(self, given[0], own)
        if len(given) == 1 and not named and self.model is not None:
            images, _ = read_images(given[0], "test")
            return scores_of(self, (self._extractor or self._look(images)).run(images), own)
        if function is Detector.score:
            raise DetectorError(
                f"{own} has no formula of logits or features; it scores Outputs, or images by {own}(model)"
            )
        arguments = signature(function).bind_partial(*given, **named).arguments
        arguments = {name: _in_double(value) for name, value in arguments.items()}
        missing = [name for name in signature(function).parameters if name not in arguments]
        return function(**arguments, **{name: self.known(name) for name in missing})

    def _run(self, extractor: Extractor, images: Tensor, labels: Tensor | None) -> Outputs:
        outputs = extractor.run(images, labels)
        classes = outputs.logits.shape[1]
        if labels is not None and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise EvaluationError(
                f"labels run from {int(labels.min())} to {int(labels.max())}, and the network has {classes} classes, "
                f"which count from 0 to {classes - 1}"
            )
        return outputs

    def _look(self, images: Tensor) -> Extractor:
        if self.model is None:
            name = type(self).__name__
            raise EvaluationError(f"this detector has no network to run on images; make it with one, {name}(model)")
        if len(images) == 0:
            raise EvaluationError("there are no images to run the network on")
        return Extractor(placed(as_network(self.model), self.device), images[:PROBES])

    def known(self, name: str) -> Any:
        """Return an attribute that the formula takes, an option or something learnt.

        Raises:
            DetectorError: It does not.
        """
        if name not in _TAKEN and hasattr(self, name):
            return getattr(self, name)
        own = type(self).__name__
        if name in _TAKEN:
            needed = [each for each in signature(type(self).score).parameters if each in _TAKEN]
            raise DetectorError(f"{own} scores {', '.join(needed)}, and {name} is missing; or images by {own}(model)")
        raise DetectorError(f"{own} has not been fitted; call its fit first")

    def __call__(self, outputs: Outputs) -> Tensor:
        """Return scores (N,), differentiable with respect to logits and features.

        Raises:
            DetectorError: These outputs do not allow it.
        """
        function = type(self).score
        return function(
            **{
                name: _TAKEN[name](outputs) if name in _TAKEN else self.known(name)
                for name in signature(function).parameters
            }
        )


def _in_double(value: Any) -> Any:
    """Return what a formula is given in float64, in which whatever was learnt is; options stay as they are."""
    if isinstance(value, LinearHead):
        return value.double()
    if not isinstance(value, Tensor | np.ndarray):
        return value
    found = to_tensor(value, "features and logits")
    return found.double() if found.is_floating_point() else found


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
    plain, options = split_options(name)
    takes = ", ".join(f"{each}={default}" for each, default in known.items()) or "no options"
    if ":" in plain:
        argument = plain.partition(":")[2]
        if argument in known:
            example = f"{plain}={known[argument]}"
            raise EvaluationError(f"{name!r}: {argument} needs a value, as in {example}")
        raise EvaluationError(f"{name!r}: {argument!r} is no option.{suggest(argument, known)} It takes: {takes}")
    for key in options:
        if key not in known:
            raise EvaluationError(f"{name!r}: {key!r} is no option.{suggest(key, known)} It takes: {takes}")
    try:
        return kind(**options)
    except (EvaluationError, NameError) as error:  # also of a type that only type checkers import
        raise EvaluationError(f"{name!r}: {error}") from error


def detector_options(name: str) -> dict[str, Any]:
    """Return the options of a detector with their defaults."""
    return _options(DETECTORS.get(name))


def _options(detector: Any) -> dict[str, Any]:
    """Return the options of a detector with their values, or of a class with their defaults."""
    return {
        each.name: getattr(detector, each.name)
        for each in fields(detector)
        if each.init and each.name not in ("model", "device")
    }
