"""Several results of the same samples as one: costs are added, and the severest verdict of each check counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from robustprune.attacks.engine.attack_result import AttackResult, Check
from robustprune.attacks.engine.checks import check_sample_size


def as_one(members: Sequence[AttackResult], attack: str) -> AttackResult:
    """Return the last member's result with the costs, options and checks of all."""
    return replace(
        members[-1],
        attack=attack,
        options={
            "attacks": {member.attack: member.options for member in members},
            "restarts": max(member.options["restarts"] for member in members),
        },
        distances=None,
        mitigated=None,
        checks=joint_checks(members),
        gradient_evaluations=sum(member.gradient_evaluations for member in members),
        forward_evaluations=sum(member.forward_evaluations for member in members),
        seconds=sum(member.seconds for member in members),
    )


def any_of(results: Sequence[AttackResult], attack: str) -> AttackResult:
    """Return what attacks that know nothing of each other broke on the same samples, under the name ``attack``.

    Each sample comes with what the first attack that broke it made of it, or the first of all.
    """
    chosen = torch.zeros(results[0].n, dtype=torch.long)
    for number in reversed(range(len(results))):
        chosen[results[number].broken] = number
    samples = torch.arange(len(chosen))

    def pick(name: str) -> Tensor:
        return torch.stack([getattr(result, name) for result in results])[chosen, samples]

    together = as_one(results, attack)
    broken = pick("broken")
    return replace(
        together,
        adversarial=pick("adversarial"),
        broken=broken,
        adversarial_predictions=pick("adversarial_predictions"),
        perturbation_norms=pick("perturbation_norms"),
        broken_at_step=pick("broken_at_step"),
        broken_by=[results[number].broken_by[sample] for sample, number in enumerate(chosen.tolist())],
        queries=torch.stack([result.queries for result in results]).sum(dim=0),
        checks=tuple(check_sample_size(broken) if each.name == "sample size" else each for each in together.checks),
    )


def joint_checks(members: Sequence[AttackResult]) -> tuple[Check, ...]:
    """Return each check once, with the severest verdict of any member, whatever their order.

    Gradients of zero fail the whole only where they fail every member that computes gradients, as with an ensemble: the
    samples are attacked by all of them. For that, one member that came to its end, or breaks all within a large budget,
    is enough.
    """
    found = []
    for name in dict.fromkeys(check.name for member in reversed(members) for check in member.checks):
        own = [(member, check) for member in reversed(members) for check in member.checks if check.name == name]
        if name in _ONE_SUFFICES and any(check.verdict == "PASS" for _, check in own):
            own = [each for each in own if each[1].verdict == "PASS"]
        member, worst = max(own, key=lambda each: _SEVERITY.index(each[1].verdict))
        verdict = worst.verdict
        if name == "zero gradient" and any(check.verdict in ("PASS", "WARN") for _, check in own):
            verdict = "WARN" if verdict == "FAIL" else verdict
        is_own = member is members[-1] and verdict in ("INFO", "PASS")
        found.append(Check(name, verdict, worst.detail if is_own else f"{member.attack}: {worst.detail}"))
    return tuple(found)


_SEVERITY = ("INFO", "PASS", "WARN", "FAIL")
_ONE_SUFFICES = ("convergence", "large budget")
