"""Random points of the ball: what an attack without any idea would find. A gradient attack must do better."""

from __future__ import annotations

from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.engine.settings import at_least_one


def attack(problem: AttackProblem, *, draws: int = 1) -> None:
    """Propose so many points drawn uniformly from the ball."""
    at_least_one("draws", draws)
    for _ in range(draws):
        problem.evaluate(problem.random_start(), "margin")
