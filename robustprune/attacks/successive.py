"""Several attacks, or several budgets, one after the other: each on the survivors of those before it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.attacks.engine.attack_result import AttackResult
from robustprune.attacks.engine.joint_results import as_one
from robustprune.attacks.engine.runner import mitigate_result, run_attack
from robustprune.attacks.engine.within_budget import within_budget
from robustprune.attacks.registry import ATTACKS, get_attack, is_minimum_norm
from robustprune.attacks.requests import Attack, Attacks
from robustprune.errors import AttackError
from robustprune.inference import shared_copies
from robustprune.runtime.arrays import Array, to_tensor


@shared_copies()
def union_attack(
    model: nn.Module,
    images: Array,
    labels: Array,
    attacks: Sequence[str | Attack],
    *,
    previous: AttackResult | None = None,
    **settings: Any,
) -> AttackResult:
    """Return what all of the attacks together broke; ``broken_by`` says which one.

    All arguments are those of `run_attack`; ``attacks`` are names, or requests with options, and the settings are the
    same for all, whatever the requests say.

    Raises:
        AttackError: As `run_attack`.
    """
    members: list[AttackResult] = []
    is_doubt_answered = settings.pop("mitigate", any(Attack.of(each).mitigate for each in attacks))
    before = previous
    for attack in sorted(attacks, key=_rank):
        previous = run_attack(model, images, labels, attack, previous=previous, mitigate=False, **settings)
        members.append(previous)
    together = as_one(members, "union")
    if not is_doubt_answered:
        return together
    return mitigate_result(together, model, images, labels, max(attacks, key=_rank), previous=before, **settings)


def _rank(attack: str | Attack) -> int:
    """Return where an attack stands among the built-in ones, cheapest first; others come last, in the order given."""
    name, known = Attack.of(attack).name, list(ATTACKS.builtin)
    return known.index(name) if name in known else len(known)


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

        As far as is known: the perturbation that was found at that budget may be smaller. Of a minimum-norm attack they
        are the distances that it found, between the budgets and beyond them.
        """
        if self.results[-1].distances is not None:
            return self.results[-1].distances
        found = torch.full((self.results[0].n,), torch.inf, dtype=torch.float64)
        for result in reversed(self.results):
            found = torch.where(result.broken, result.epsilon, found)
        return torch.where(self.results[0].broken_at_step == 0, 0.0, found)

    @property
    def median_minimal_epsilon(self) -> float:
        """The budget that breaks half of the samples; inf where the largest does not."""
        return float(statistics.median_high(self.minimal_epsilon.tolist()))


@shared_copies()
def security_curve(
    model: nn.Module,
    images: Array,
    labels: Array,
    attack: str | Attack = "pgd",
    *,
    epsilons: Sequence[float | str | Fraction],
    norm: str = "linf",
    **settings: Any,
) -> SecurityCurve:
    """Attack with rising budgets, each only what the ones below it left; with a minimum-norm attack once for all.

    ``epsilons`` are budgets in any order; all further arguments are those of `run_attack`.

    Raises:
        AttackError: No budget, or as `run_attack`.
    """
    rising = sorted(set(Attacks.of({"epsilons": tuple(epsilons), "norm": norm}).epsilons))
    if not rising:
        raise AttackError("a security curve needs at least one epsilon")
    return SecurityCurve(tuple(attack_rising(model, images, labels, attack, rising, norm=norm, **settings)))


def attack_rising(
    model: nn.Module, images: Array, labels: Array, attack: str | Attack, rising: Sequence[float], **settings: Any
) -> list[AttackResult]:
    """Return results at rising budgets, each of an attack on what the ones below it left.

    A minimum-norm attack runs once, at the largest, and that result bears the costs; but for checks that take further
    attacks, which are made at each budget.
    """
    asked = Attack.of(attack)
    if is_minimum_norm(get_attack(asked.name)) and settings.get("checks", asked.checks) == "default":
        last = run_attack(model, images, labels, attack, epsilon=rising[-1], **settings)
        free = replace(last, gradient_evaluations=0, forward_evaluations=0, seconds=0.0)
        attacked = to_tensor(images, "images", AttackError)
        return [*(within_budget(free, attacked, epsilon) for epsilon in rising[:-1]), last]
    results: list[AttackResult] = []
    for epsilon in rising:
        previous = results[-1] if results else None
        results.append(run_attack(model, images, labels, attack, epsilon=epsilon, previous=previous, **settings))
    return results
