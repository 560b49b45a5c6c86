"""What norms and budgets of attacks are called for readers."""

from __future__ import annotations

_NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1"}


def write_norm(norm: str) -> str:
    """Return a norm by its symbol."""
    return _NORMS.get(norm, norm)


def write_epsilon(epsilon: float) -> str:
    """Return a budget as a fraction of 255 where it is one, else as a number."""
    levels = 255 * epsilon
    return f"{levels:.0f}/255" if abs(levels - round(levels)) < 1e-4 and levels >= 0.5 else f"{epsilon:.3g}"
