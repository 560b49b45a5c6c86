"""The parts of an attack, one after the other, and how far an interrupted attack had come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeVar

from torch import Tensor


class Attacked(Protocol):
    """What of an `AttackProblem` its stages have to do with."""

    restart: int
    has_drawn: bool
    pool: Tensor

    def fill_pool(self, pool: Tensor | None = None) -> None:
        """Take up the survivors, or those from before an interruption."""
        ...


class Carried(Protocol):
    """What a loop of an attack carries from one step to the next."""

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it, by name."""
        ...


AnyCarried = TypeVar("AnyCarried", bound=Carried)


@dataclass
class Walk:
    """What most loops carry; some carry more, one row of each tensor for each sample.

    Attributes:
        rows: (n,) indices of the samples still on their way.
        points: (n, …) where they are.
    """

    rows: Tensor
    points: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it, by name."""
        return dict(vars(self))

    def keep(self, left: Tensor) -> None:
        """Go on with some of the samples (n,)."""
        if not bool(left.all()):
            for field in fields(self):
                setattr(self, field.name, getattr(self, field.name)[left])


@dataclass
class Midway:
    """A moment between two steps of a loop.

    Attributes:
        restart: Which restart it is.
        stage: Which stage.
        loop: How many loops of the stage came before.
        step: How many steps of this one.
        draws: Random draws of the stage so far.
        pool: (N,) bool, the samples that the stage took up.
        carried: What the loop carries.
    """

    restart: int
    stage: str
    loop: int
    step: int
    draws: int
    pool: Tensor
    carried: dict[str, Tensor]


class Keeper:
    """What is known of an attack from before it was interrupted; this one knows nothing and keeps nothing.

    Attributes:
        had_drawn: Whether the attack had drawn at random.
        midway: Where it was within a stage.
    """

    had_drawn = False
    midway: Midway | None = None

    def is_done(self, restart: int, stage: str) -> bool:
        """Return whether a stage is behind; the whole of a restart is the stage ``""``."""
        return False

    def finish(self, restart: int, stage: str) -> None:
        """Take note that a stage is behind."""

    def pass_by(self, look: Callable[[], Midway]) -> None:
        """Take note of a moment within a stage, or let it pass."""


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
        self._loops = 0

    def run(self, problem: Attacked, name: str, attack: Callable[..., None], options: dict[str, Any]) -> None:
        """Run a stage, unless it is behind; it draws at random as if it ran alone."""
        if name not in self.names:
            self.names.append(name)
        if self.keeper.is_done(problem.restart, name):
            problem.has_drawn |= self.keeper.had_drawn
            return
        outer = self.current, self.draws, self._loops
        self.current, self.draws, self._loops = name, 0, 0
        midway = self._midway(problem)
        problem.fill_pool(None if midway is None else midway.pool)
        attack(problem, **options)
        self.current, self.draws, self._loops = outer
        self.keeper.finish(problem.restart, name)

    def steps(
        self, problem: Attacked, count: int, begin: Callable[[dict[str, Tensor] | None], AnyCarried]
    ) -> Iterator[tuple[int, AnyCarried]]:
        """Yield the steps of a loop with what it carries; see `AttackProblem.steps`."""
        loop, first, saved = self._loops, 0, None
        self._loops += 1
        midway = self._midway(problem)
        if midway is not None:
            if loop < midway.loop:
                return
            first, self.draws, self.keeper.midway = midway.step, midway.draws, None
            saved = {name: value.to(problem.pool.device) for name, value in midway.carried.items()}
            problem.has_drawn |= self.keeper.had_drawn
        carried = begin(saved)
        for step in range(first, count):
            yield step, carried

            def look(done: int = step + 1) -> Midway:
                return Midway(
                    problem.restart, self.current, loop, done, self.draws, problem.pool.clone(), carried.tensors()
                )

            if step + 1 < count:
                self.keeper.pass_by(look)

    def _midway(self, problem: Attacked) -> Midway | None:
        midway = self.keeper.midway
        is_here = midway is not None and (midway.restart, midway.stage) == (problem.restart, self.current)
        return midway if is_here else None
