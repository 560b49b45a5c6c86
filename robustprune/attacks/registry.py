"""The attacks by name, and the options each of them takes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from robustprune.attacks.requests import Attack
from robustprune.errors import AttackError
from robustprune.registry import Registry, read_tables, suggest

ATTACKS = Registry("attack", "robustprune.attacks", read_tables("attacks")["PLUGINS"])

AttackFunction = Callable[..., None]
"""``attack(problem, *, option=default, …)``."""

_OF_A_CALL = ("targets", "sample_ids", "previous", "expected_clean_accuracy", "device", "work")
ENGINE_OPTIONS = (*Attack.model_fields, *_OF_A_CALL)
"""What `run_attack` itself takes: an attack cannot have an option of these names."""


register_attack = ATTACKS.register
"""A decorator, ``@register_attack(name)``, that makes ``attack(problem, *, option=default, …)`` known as ``name``."""


def attack_family(function: Callable[[str], AttackFunction]) -> Callable[[str], AttackFunction]:
    """Mark a function that returns the attack whose name follows the colon."""
    function.is_family = True  # type: ignore[attr-defined]
    return function


def for_norms(*norms: str) -> Callable[[AttackFunction], AttackFunction]:
    """Return a decorator that says which norms an attack knows; one without it knows all but L0."""

    def mark(attack: AttackFunction) -> AttackFunction:
        attack.norms = norms  # type: ignore[attr-defined]
        return attack

    return mark


def in_two_phases(first: str, second: str) -> Callable[[AttackFunction], AttackFunction]:
    """Return a decorator that says which parts of an ensemble attack all samples, and which may see some survivors.

    The ensemble has two options: ``attacks``, the parts to run, joined by ``+``, and ``sample``, see
    `robustprune.attacks.engine.two_phases`.
    """

    def mark(attack: AttackFunction) -> AttackFunction:
        attack.phases = (first, second)  # type: ignore[attr-defined]
        return attack

    return mark


def phases_of(attack: AttackFunction) -> tuple[str, ...]:
    """Return the parts of the two phases of an ensemble; none of any other attack."""
    return getattr(attack, "phases", ())


def read_part(text: str) -> tuple[str, int, int | None]:
    """Return the name of an ensemble's part, and of the classes it aims at the first and the one after the last.

    ``apgd-t[:3]`` aims at three, ``apgd-t[3:]`` at all others: None is the last that there is.
    """
    found = re.fullmatch(r"(apgd-t)\[(\d*):(\d*)\]", text)
    if found is None:
        return text, 0, None
    return found[1], int(found[2] or 0), int(found[3]) if found[3] else None


def minimum_norm(attack: AttackFunction) -> AttackFunction:
    """Mark an attack that looks for the nearest misclassified point of each sample, however far it is.

    It runs without a ball and without early stopping, and the engine keeps of what it proposes the nearest point.
    """
    attack.is_minimum_norm = True  # type: ignore[attr-defined]
    return attack


def is_minimum_norm(attack: AttackFunction) -> bool:
    """Return whether an attack looks for the nearest misclassified points."""
    return getattr(attack, "is_minimum_norm", False)


def knows_norm(attack: AttackFunction, norm: str) -> bool:
    """Return whether an attack can measure its budget in a norm."""
    return norm in _norms_of(attack)


def _norms_of(attack: AttackFunction) -> Sequence[str]:
    # A budget of changed entries takes an attack that was made for it.
    return getattr(attack, "norms", ("linf", "l2", "l1"))


def check_norm(attack: AttackFunction, name: str, norm: str) -> None:
    """Raise an `AttackError` where the attack called ``name`` does not know a norm."""
    if not knows_norm(attack, norm):
        *others, last = _norms_of(attack)
        known = f"{', '.join(others)} and {last}" if others else last
        instead = "'fmn' or 'sigma-zero'" if norm == "l0" else "'pgd' or 'fab-t'"
        raise AttackError(f"the attack {name!r} is for {known}; in {norm}, attack with {instead}")


def get_attack(name: str) -> AttackFunction:
    """Return the attack function called ``name``; of a family such as ``torchattacks``, ``torchattacks:CW``.

    Raises:
        UnknownNameError: There is none of that name.
        AttackError: The name carries an argument (``pgd:something``) that the attack does not take, or is that
            of a family without saying which.
    """
    attack: Any = ATTACKS.get(name)
    family, colon, member = name.partition(":")
    if getattr(attack, "is_family", False):
        if not member:
            raise AttackError(f"{family!r} has many attacks; say which, such as {family}:PGD")
        attack = attack(member)
    elif colon:
        raise AttackError(
            f"the attack {family!r} takes no argument after a colon, got {name!r}; its options are written "
            f"{family}:key=value, see `robustprune list attacks`"
        )
    function: AttackFunction = attack
    return function


def attack_options(name: str) -> dict[str, Any]:
    """Return the options of an attack with their defaults, beyond those `run_attack` takes for all of them.

    Callers that share settings between attacks pass each one only what it takes. An option without a default
    is given as `inspect.Parameter.empty`.

    Raises:
        UnknownNameError: There is no attack of that name.
        AttackError: The attack has an option of a name that belongs to `run_attack`.
    """
    # The first parameter is the problem.
    _, *parameters = inspect.signature(get_attack(name)).parameters.values()
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    options = {each.name: each.default for each in parameters if each.kind in kinds}
    taken = [option for option in options if option in ENGINE_OPTIONS]
    if taken:
        raise AttackError(f"the attack {name!r} has an option {taken[0]!r}, which belongs to run_attack; rename it")
    return options


def expand_options(name: str, given: Mapping[str, Any], shared: Sequence[str] = ENGINE_OPTIONS) -> dict[str, Any]:
    """Return the given options of an attack, completed by its defaults; ``shared`` are those that every attack takes.

    Raises:
        AttackError: An option the attack does not take, or one it needs and was not given.
    """
    defaults = attack_options(name)
    parameters = inspect.signature(get_attack(name)).parameters.values()
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    for option in given:
        if option not in defaults and not takes_any:
            own = ", ".join(defaults) or "none of its own"
            raise AttackError(
                f"the attack {name!r} takes no option {option!r}."
                f"{suggest(option, [*defaults, *shared])} It takes: {own}; "
                f"and as every attack: {', '.join(shared)}."
            )
    options = {**defaults, **given}
    missing = [option for option, value in options.items() if value is inspect.Parameter.empty]
    if missing:
        raise AttackError(f"the attack {name!r} needs a value for {', '.join(missing)}")
    return options


def named(value: Any) -> Any:
    """Return an option as a file can hold it: functions, such as a loss, by module and name, also within others.

    A function's text would hold its address, which is another in every process.
    """
    if isinstance(value, Mapping):
        return {name: named(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [named(each) for each in value]
    if isinstance(value, partial):
        return f"{named(value.func)} with {[*value.args, value.keywords]}"
    if not callable(value):
        return value
    # An object that can be called goes by its class.
    kind = value if hasattr(value, "__qualname__") else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
