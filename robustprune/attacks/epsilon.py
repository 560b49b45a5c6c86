"""Reading lengths in units of [0, 1] pixels: a number or a fraction such as ``8/255``."""

from __future__ import annotations

import math
from fractions import Fraction
from numbers import Real

from robustprune.errors import AttackError


def parse_epsilon(value: float | str | Fraction, norm: str = "linf") -> float:
    """Return a budget as a float, in units of [0, 1] pixels.

    Args:
        value: A number, or a string holding one (``"0.03"``) or a fraction (``"8/255"``).
        norm: The norm the budget is measured in; an L∞ budget cannot exceed 1.

    Raises:
        AttackError: Not a number, negative, not finite, or an L∞ budget above 1.
    """
    epsilon = _number("epsilon", value)
    if not math.isfinite(epsilon) or epsilon < 0:
        raise AttackError(f"epsilon must be a finite number of at least 0, got {value!r}")
    if norm == "linf" and epsilon > 1:
        raise AttackError(
            f"epsilon {value} exceeds the whole range of a pixel, which is [0, 1] here; forgot /255? "
            f"Write {epsilon:g}/255"
        )
    return epsilon


def parse_step_size(value: float | str | Fraction) -> float:
    """Return the length of an attack's step as a float, read as `parse_epsilon` does.

    Raises:
        AttackError: Not a number, not finite, or not above 0.
    """
    step_size = _number("step_size", value)
    if not math.isfinite(step_size) or step_size <= 0:
        raise AttackError(f"step_size must be a finite number above 0, got {value!r}; leave it out to let steps fall")
    return step_size


def _number(name: str, value: float | str | Fraction) -> float:
    if isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        numerator, slash, denominator = value.partition("/")
        try:
            return float(numerator) / float(denominator) if slash else float(numerator)
        except (ValueError, ZeroDivisionError):
            pass
    raise AttackError(f"{name} must be a number or a fraction such as '8/255', got {value!r}")
