"""Several results of the same samples as one: costs are added, and the severest verdict of each check counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from robustprune.attacks.engine.attack_result import AttackResult, Check


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
        checks=joint_checks(members),
        gradient_evaluations=sum(member.gradient_evaluations for member in members),
        forward_evaluations=sum(member.forward_evaluations for member in members),
        seconds=sum(member.seconds for member in members),
    )


def joint_checks(members: Sequence[AttackResult]) -> tuple[Check, ...]:
    """Return each check once, with the severest verdict of any member, whatever their order.

    Gradients of zero fail the whole only where they fail every member that computes gradients, as with an ensemble: the
    samples are attacked by all of them.
    """
    found = []
    for name in dict.fromkeys(check.name for member in reversed(members) for check in member.checks):
        own = [(member, check) for member in reversed(members) for check in member.checks if check.name == name]
        member, worst = max(own, key=lambda each: _SEVERITY.index(each[1].verdict))
        verdict = worst.verdict
        if name == "zero gradient" and any(check.verdict in ("PASS", "WARN") for _, check in own):
            verdict = "WARN" if verdict == "FAIL" else verdict
        is_own = member is members[-1] and verdict in ("INFO", "PASS")
        found.append(Check(name, verdict, worst.detail if is_own else f"{member.attack}: {worst.detail}"))
    return tuple(found)


_SEVERITY = ("INFO", "PASS", "WARN", "FAIL")
