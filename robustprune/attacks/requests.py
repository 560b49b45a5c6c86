"""What can be asked of attacks: one attack at one budget, or several at several."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from numbers import Real
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from robustprune.attacks.norms import get_norm
from robustprune.errors import AttackError, RobustPruneError
from robustprune.registry import read_options, split_options, with_options
from robustprune.runtime.requests import Names, PathText, Request, as_list


def parse_epsilon(value: float | str | Fraction, norm: str = "linf") -> float:
    """Return a budget as a float, in units of [0, 1] pixels.

    Args:
        value: A number, or a string holding one (``"0.03"``) or a fraction (``"8/255"``).
        norm: The norm the budget is measured in; an L∞ budget cannot exceed 1, one in L0 is a whole number.

    Raises:
        AttackError: Not a number, negative, not finite, an L∞ budget above 1, or one in L0 between whole numbers.
    """
    epsilon = _number("epsilon", value)
    if not math.isfinite(epsilon) or epsilon < 0:
        raise AttackError(f"epsilon must be a finite number of at least 0, got {value!r}")
    if norm == "linf" and epsilon > 1:
        raise AttackError(
            f"epsilon {value} exceeds the whole range of a pixel, which is [0, 1] here; forgot /255? "
            f"Write {epsilon:g}/255"
        )
    if norm == "l0" and not epsilon.is_integer():
        raise AttackError(f"epsilon in l0 is how many entries of an image may change, a whole number, got {value!r}")
    return epsilon


def parse_step_size(value: float | str | Fraction) -> float:
    """Return the length of an attack's step as a float above 0, read as `parse_epsilon` does."""
    step_size = _number("step_size", value)
    if not math.isfinite(step_size) or step_size <= 0:
        raise AttackError(f"step_size must be a finite number above 0, got {value!r}; leave it out to let steps fall")
    return step_size


def _number(name: str, value: float | str | Fraction) -> float:
    if _is_number(value):
        return float(value)
    if isinstance(value, str):
        numerator, slash, denominator = value.partition("/")
        try:
            return float(numerator) / float(denominator) if slash else float(numerator)
        except (ValueError, ZeroDivisionError):
            pass
    raise AttackError(f"{name} must be a number or a fraction such as '8/255', got {value!r}")


def _linf_epsilon(value: Any) -> float:
    try:
        return parse_epsilon(value)
    except AttackError as error:
        raise ValueError(str(error)) from error


_Unboxed = BeforeValidator(lambda value: int(value) if isinstance(value, np.integer) else value)
Integer = Annotated[int, Field(strict=True), _Unboxed]
Count = Annotated[Integer, Field(ge=1)]
Epsilon = Annotated[float, BeforeValidator(lambda value: parse_epsilon(value, "l2"))]
"""A budget on the [0, 1] scale: a number, or a fraction such as ``"8/255"``. That of L∞ is held to 1 with its norm."""
LinfEpsilon = Annotated[float, BeforeValidator(_linf_epsilon)]
"""An L∞ budget in requests of other rooms, whose kind of error it then is that something is wrong with it."""
Norm = Annotated[Literal["linf", "l2", "l1", "l0"], BeforeValidator(lambda value: get_norm(value).name)]


USUAL_EPSILONS = {"linf": 8 / 255, "l2": 0.5, "l1": 12.0, "l0": 24.0}
"""Norm → the budget that RobustBench and AutoAttack's authors use for CIFAR-10 (Croce et al. 2021, arXiv:2010.09670;
L1: Croce & Hein 2021, arXiv:2103.01208; L0: the smaller one of Cinà et al. 2024, arXiv:2402.01879), and attacks here
where none is given."""

OF_ONE_ATTACK = ("restarts", "eot")
"""How an attack is run that may differ between those of one evaluation."""


def at_least_one(name: str, value: Any) -> int:
    """Return a count as an int, or raise an `AttackError` that names it."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise AttackError(f"{name} must be an integer of at least 1, got {value!r}")
    return int(value)


def above_zero(name: str, value: Any) -> None:
    """Raise an `AttackError` that names a length or a factor which is none."""
    if not _is_number(value) or not 0 < value < math.inf:
        raise AttackError(f"{name} must be a finite number above 0, got {value!r}")


def between_zero_and_one(name: str, value: Any) -> None:
    """Raise an `AttackError` that names a share which is none."""
    if not _is_number(value) or not 0 < value < 1:
        raise AttackError(f"{name} must lie between 0 and 1, got {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


Epsilons = Annotated[tuple[Epsilon, ...], BeforeValidator(as_list)]
LinfEpsilons = Annotated[tuple[LinfEpsilon, ...], BeforeValidator(as_list)]


def _usual_epsilon(given: Mapping[str, Any]) -> float:
    return USUAL_EPSILONS[given.get("norm", "linf")]  # a norm that there is not is refused before


class _Manner(Request):
    """How an attack is run, whichever it is.

    Attributes:
        norm: ``linf``, ``l2``, ``l1`` or ``l0``, the number of entries that are changed, which few attacks know.
        restarts: Runs of an attack that draws at random; each further one on the survivors only.
        eot: Passes whose mean leads the attack on a network that draws at random (expectation over transformation,
            Athalye et al. 2018); one more judges what it found.
        checks: ``default``, or ``full`` for those that take attacks of their own.
        mitigate: Where checks are in doubt, also attack as they suggest, and report both robust accuracies.
        options: Options of the attacks, such as ``steps``; whatever keyword is no other field is one.
    """

    FIRST: ClassVar[str | None] = "name"
    REST: ClassVar[str | None] = "options"
    ERROR: ClassVar[type[RobustPruneError]] = AttackError

    norm: Norm = "linf"
    restarts: Count = 1
    eot: Count = 1
    checks: Literal["default", "full"] = "default"
    mitigate: bool = False
    options: dict[str, Any] = Field(default_factory=dict)


class Attack(_Manner):
    """One attack at one budget: ``Attack("pgd", epsilon="8/255", steps=40)`` or ``Attack("pgd:steps=40")``.

    Attributes:
        name: See ``robustprune list attacks``. What is written behind it as an option or a field counts.
        label: What results call it; by default its name with all that was written behind it.
        epsilon: Budget on the [0, 1] scale: a number, or a fraction such as ``"8/255"``. By default 8/255 in L∞, 0.5
            in L2, 12 in L1 and 24 in L0; of a minimum-norm attack, as large as the box.
        seed: Keys the random draws, together with sample id and restart.
        batch_size: Samples per forward pass, fewer where memory runs out. Does not change the outcome beyond rounding.
        early_stop: Stop computing a sample once it is broken. Otherwise all go on to the end of each restart, as in
            textbook implementations; minimum-norm attacks always do.
        selection: Which point is returned: ``best``, the first misclassified one (with early stopping; the one of
            highest loss among them without), else the one of highest loss; ``last``, the last one asked about; or
            ``nearest``, the misclassified one nearest to the image, else the image: always so of minimum-norm attacks.
        frozen: Attack a frozen copy, which is faster; success is always the model's own verdict.
    """

    name: str = "pgd"
    label: str = "pgd"
    epsilon: Epsilon = Field(default_factory=_usual_epsilon)
    seed: Integer = 0
    batch_size: Count = 256
    early_stop: bool = True
    selection: Literal["best", "last", "nearest"] = "best"
    frozen: bool = True

    @classmethod
    def _read_name(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        if not isinstance(written := given.get("name"), str):
            return given
        name, own = read_options(written)
        return {"label": with_options(*split_options(written)), **given, "name": name, **own}

    @model_validator(mode="after")
    def _fits_the_norm(self) -> Self:
        parse_epsilon(self.epsilon, self.norm)
        if self.selection == "nearest" and self.eot > 1:
            raise AttackError(
                f"{self.name!r} looks for the nearest points, which lie on the boundary, where a network that draws at "
                f"random answers by chance; leave eot at 1, or attack with 'pgd'"
            )
        return self

    @property
    def account(self) -> dict[str, Any]:
        """What a result reports beside the attack's own options."""
        return {
            name: getattr(self, name) for name in ("restarts", "seed", "batch_size", "early_stop", "selection", "eot")
        }


class Attacks(_Manner):
    """Attacks of an evaluation: ``Attacks(["fgsm", "pgd"], epsilons=["2/255", "8/255"], restarts=2)``.

    Attributes:
        names: See ``robustprune list attacks``; none by default. Options behind a name are that attack's alone:
            ``"pgd:steps=40,loss=margin,fgsm"``; ``restarts`` and ``eot`` may be among them.
        epsilons: Budgets, attacked in rising order: a sample broken at one counts as broken at all larger ones. By
            default the one of `Attack`, which depends on the norm.
        union: Whether to give one figure for all attacks together instead of one for each.
        transfer_from: A network to make further adversarial images on; in a sweep ``dense``, that of the same seed.
        save_adversarial: An npz file of the images; of several attacks or budgets, one for each beside it.
    """

    FIRST: ClassVar[str | None] = "names"

    names: Names = ()
    epsilons: Epsilons = Field(default_factory=lambda given: (_usual_epsilon(given),))
    union: bool = False
    transfer_from: Any = None
    save_adversarial: PathText | None = None

    @model_validator(mode="after")
    def _fit_the_norm(self) -> Self:
        for epsilon in self.epsilons:
            parse_epsilon(epsilon, self.norm)
        return self
