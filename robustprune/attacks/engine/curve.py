"""Robust accuracy against the budget, in one pass from the smallest to the largest."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.attacks.engine.result import AttackResult
from robustprune.attacks.engine.run import run_attack
from robustprune.attacks.requests import Attack, Attacks
from robustprune.errors import AttackError
from robustprune.runtime.arrays import Array

Attacker = Callable[..., AttackResult]


@dataclass(frozen=True)
class SecurityCurve:
    """Results of one attack at rising budgets.

    Attributes:
        results: One per budget; what a smaller budget broke counts as broken at the larger ones.
    """

    results: tuple[AttackResult, ...]

    @property
    def epsilons(self) -> list[float]:
        """The budgets, rising."""
        return [result.epsilon for result in self.results]

    @property
    def robust_accuracies(self) -> list[float]:
        """The robust accuracy at each of them."""
        return [result.robust_accuracy for result in self.results]

    @property
    def minimal_epsilon(self) -> Tensor:
        """(N,) float64, the smallest budget that broke each sample; 0 where none was needed, inf where none did.

        As far as is known: the perturbation that was found at that budget may be smaller.
        """
        found = torch.full((self.results[0].n,), torch.inf, dtype=torch.float64)
        for result in reversed(self.results):
            found = torch.where(result.broken, result.epsilon, found)
        return torch.where(self.results[0].broken_at_step == 0, 0.0, found)

    @property
    def median_minimal_epsilon(self) -> float:
        """The budget that breaks half of the samples; inf where the largest does not."""
        return float(statistics.median_high(self.minimal_epsilon.tolist()))


def security_curve(
    model: nn.Module,
    images: Array,
    labels: Array,
    attack: str | Attack = "pgd",
    *,
    epsilons: Sequence[float | str | Fraction],
    norm: str = "linf",
    attacker: Attacker = run_attack,
    **settings: Any,
) -> SecurityCurve:
    """Attack with rising budgets, each only what the ones below it left.

    Args:
        model: As for `run_attack`.
        images: (N, …), uint8 or float in [0, 1].
        labels: (N,) integers.
        attack: Name of the attack, or a request.
        epsilons: Budgets, in any order.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        attacker: What runs the attack at one budget.
        **settings: As for `run_attack`.

    Raises:
        AttackError: No budget, or as `run_attack`.
    """
    rising = sorted(set(Attacks.of({"epsilons": tuple(epsilons), "norm": norm}).epsilons))
    if not rising:
        raise AttackError("a security curve needs at least one epsilon")
    results: list[AttackResult] = []
    for epsilon in rising:
        carry = results[-1] if results else None
        results.append(attacker(model, images, labels, attack, epsilon=epsilon, norm=norm, carry=carry, **settings))
    return SecurityCurve(tuple(results))
