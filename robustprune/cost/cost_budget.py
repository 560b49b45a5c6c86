"""A budget: what a network may cost at most, as a number or a share of what the dense one costs."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass

from robustprune.errors import RobustPruneError
from robustprune.registry import suggest

_SHORT = {"params": "parameters", "memory": "training_memory"}
_FORM = re.compile(r"\s*(\w+)\s*<=\s*([\d.,_]+(?:e[+-]?\d+)?)\s*(%?)\s*")


@dataclass(frozen=True)
class Budget:
    """A cost, and the most that it may be.

    Attributes:
        cost: Its name, in full.
        number: The most, in the cost's own unit; of a share, in percent of the dense network's.
        is_share: Whether it is one.
    """

    cost: str
    number: float
    is_share: bool

    def most(self, dense: float) -> float:
        """Return the most in the cost's own unit, beside what the dense network costs."""
        return self.number * dense / 100 if self.is_share else self.number

    def __str__(self) -> str:
        """Write it as it is read, in one way."""
        return f"{self.cost}<={self.number:.15g}{'%' if self.is_share else ''}"


def read_budget(text: str, known: Collection[str], error: type[RobustPruneError]) -> Budget:
    """Return the budget that a text says: ``macs<=60%`` of the dense network's, or ``parameters<=200,000``.

    ``params`` and ``memory`` are short for ``parameters`` and ``training_memory``. What cannot be read raises
    ``error``.
    """
    found = _FORM.fullmatch(str(text))
    number = _number(found[2]) if found else None
    if found is None or number is None:
        raise error(f"a budget is COST<=NUMBER or COST<=SHARE%, such as macs<=60%, not {text!r}")
    cost = _SHORT.get(found[1], found[1])
    if cost not in known:
        raise error(f"there is no cost {cost!r}.{suggest(cost, known)} Known: {', '.join(known)}.")
    return Budget(cost, number, bool(found[3]))


def _number(text: str) -> float | None:
    try:
        number = float(text.replace(",", "").replace("_", ""))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
