"""Several attacks as one, each on what those before it left, cheapest first."""

from __future__ import annotations

# Functions, since the package calls one of its functions as it does the module.
from robustprune.attacks.apgd import TARGETS, cross_entropy_attack, targeted_attack
from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.fab import attack as fab_attack
from robustprune.attacks.pgd import attack as pgd_attack
from robustprune.attacks.registry import for_norms
from robustprune.attacks.square import attack as square_attack

# Those of APGD and Square.
_NORMS = for_norms("linf", "l2")


@_NORMS
def autoattack(problem: AttackProblem, *, steps: int = 100, queries: int = 5000, target_classes: int = TARGETS) -> None:
    """Run the standard AutoAttack ensemble (Croce & Hein 2020, arXiv:2003.01690).

    APGD on cross-entropy, targeted APGD, targeted FAB and Square, with the hyper-parameters of its version
    "standard" as defaults: 100 steps, 9 target classes (fewer where there are fewer), 5000 queries, one run of each.
    """
    problem.run_stage("apgd-ce", cross_entropy_attack, steps=steps)
    problem.run_stage("apgd-t", targeted_attack, steps=steps, target_classes=target_classes)
    problem.run_stage("fab-t", fab_attack, steps=steps, target_classes=target_classes)
    problem.run_stage("square", square_attack, queries=queries)


def quick(problem: AttackProblem) -> None:
    """Run ten steps of PGD on cross-entropy, then on the margin: an upper bound in seconds."""
    problem.run_stage("pgd-ce", pgd_attack, steps=10, loss="ce")
    problem.run_stage("pgd-margin", pgd_attack, steps=10, loss="margin")


@_NORMS
def medium(problem: AttackProblem) -> None:
    """Run `quick`, then APGD-CE and APGD-T: AutoAttack without FAB-T and Square."""
    quick(problem)
    problem.run_stage("apgd-ce", cross_entropy_attack, steps=100)
    problem.run_stage("apgd-t", targeted_attack, steps=100)


@_NORMS
def strong(problem: AttackProblem) -> None:
    """Run `quick`, then `autoattack`."""
    quick(problem)
    autoattack(problem)
