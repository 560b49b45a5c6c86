"""Long pieces of work side by side on one machine, by turns.

One process works while the others are held, for a second or two at a time, so that a machine whose speed changes within
minutes changes it for all of them. What a process takes is the sum of its turns.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import torch

Tell = Callable[[str, float], None]
"""Called by a piece of work with the name of a stage it is done with and a figure reached."""
Work = Callable[[Tell], Any]
Prepare = Callable[[], Work]
"""Loads what the work needs, outside of its time; must be picklable, as what the work returns (arrays rather than
tensors, which torch would hand over through a process that has ended)."""


@dataclass(frozen=True)
class Stage:
    """What had been reached when a stage was done, and the seconds of turns until then."""

    name: str
    seconds: float
    figure: float


@dataclass
class Run:
    """One piece of work.

    Attributes:
        outcome: What it returned.
        seconds: Time of its turns by the clock.
        processor_seconds: Processor time, all threads.
        stages: Its stages in order.
    """

    outcome: Any = None
    seconds: float = 0.0
    processor_seconds: float = 0.0
    stages: list[Stage] = field(default_factory=list)


def by_turns(works: Sequence[Prepare], lengths: Sequence[float]) -> list[Run]:
    """Run pieces of work by turns of the given lengths in seconds.

    Lengths proportional to the times expected let all end together; once one has ended the others go on without it.

    Raises:
        EOFError: A process died; it has said why.
    """
    held: list[_Held] = []
    try:
        for prepare, length in zip(works, lengths, strict=True):
            held.append(_Held(prepare, length))
        for each in held:
            each.get_ready()
        left = held.copy()
        while left:
            left = [each for each in left if not each.work_a_turn()]
        return [each.finish() for each in held]
    finally:
        for each in held:
            each.process.kill()
            each.process.join()


class _Held:
    """A process that works in its turns and is held between them."""

    def __init__(self, prepare: Prepare, length: float) -> None:
        """Start it, and let it prepare."""
        context = multiprocessing.get_context("spawn")
        self.run, self._length = Run(), length
        self._pipe, its = context.Pipe()
        self.process = context.Process(target=_work, args=(prepare, its, torch.get_num_threads()), daemon=True)
        self.process.start()
        its.close()

    def get_ready(self) -> None:
        """Wait until it is prepared, and hold it."""
        self._pipe.recv()
        self._signal(signal.SIGSTOP)
        self._pipe.send("begin")

    def work_a_turn(self) -> bool:
        """Let it work for a turn, note what it tells, and return whether it has ended."""
        began, before, ended = time.perf_counter(), self.run.seconds, False
        self._signal(signal.SIGCONT)
        while not ended and self._pipe.poll(max(0.0, self._length - (time.perf_counter() - began))):
            name, figure = self._pipe.recv()
            if name is None:
                self.run.processor_seconds, ended = figure, True
            else:
                self.run.stages.append(Stage(name, before + time.perf_counter() - began, figure))
        self.run.seconds = before + time.perf_counter() - began
        self._signal(signal.SIGSTOP)
        return ended

    def finish(self) -> Run:
        """Take over what it returns."""
        self._signal(signal.SIGCONT)
        self.run.outcome = self._pipe.recv()
        return self.run

    def _signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


def _work(prepare: Prepare, pipe: Connection, threads: int) -> None:
    torch.set_num_threads(threads)
    work = prepare()
    pipe.send("ready")
    pipe.recv()
    began = time.process_time()
    outcome = work(lambda name, figure: pipe.send((name, figure)))
    pipe.send((None, time.process_time() - began))
    pipe.send(outcome)
