"""The parts of an attack, one after the other, and which of them an interrupted attack has behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustprune.attacks.problem import AttackProblem


class Keeper:
    """What is known of an attack from before it was interrupted; this one knows nothing and keeps nothing."""

    had_drawn = False

    def is_done(self, restart: int, stage: str) -> bool:
        """Return whether a stage is behind; the whole of a restart is the stage ``""``."""
        return False

    def finish(self, restart: int, stage: str) -> None:
        """Take note that a stage is behind."""


class Stages:
    """Runs the parts of an attack on one problem.

    Attributes:
        names: Those begun so far, in the order in which the ledger numbers them; an attack of one piece has
            one of the name ``""``.
        current: The one that runs.
        draws: Random draws it has made.
        keeper: What is known from before.
    """

    def __init__(self) -> None:
        """Begin with the attack as a whole."""
        self.names = [""]
        self.current, self.draws = "", 0
        self.keeper = Keeper()

    def run(self, problem: AttackProblem, name: str, attack: Callable[..., None], options: dict[str, Any]) -> None:
        """Run a stage, unless it is behind; it draws at random as if it ran alone."""
        if name not in self.names:
            self.names.append(name)
        if self.keeper.is_done(problem.restart, name):
            problem.has_drawn |= self.keeper.had_drawn
            return
        outer = self.current, self.draws
        self.current, self.draws = name, 0
        problem.fill_pool()
        attack(problem, **options)
        self.current, self.draws = outer
        self.keeper.finish(problem.restart, name)
