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
    context = multiprocessing.get_context("spawn")
    runs = [Run() for _ in works]
    processes, pipes = [], []
    try:
        for prepare in works:
            ours, its = context.Pipe()
            process = context.Process(target=_work, args=(prepare, its, torch.get_num_threads()), daemon=True)
            process.start()
            its.close()
            processes.append(process)
            pipes.append(ours)
        for pipe in pipes:
            pipe.recv()
        pids = [_pid(process) for process in processes]
        for pid, pipe in zip(pids, pipes, strict=True):
            os.kill(pid, signal.SIGSTOP)
            pipe.send("begin")
        left = list(range(len(works)))
        while left:
            for at in tuple(left):
                os.kill(pids[at], signal.SIGCONT)
                ended = _follow(runs[at], pipes[at], lengths[at])
                os.kill(pids[at], signal.SIGSTOP)
                if ended:
                    left.remove(at)
        for pid, pipe, run in zip(pids, pipes, runs, strict=True):
            os.kill(pid, signal.SIGCONT)
            run.outcome = pipe.recv()
    finally:
        for process in processes:
            process.kill()
            process.join()
    return runs


def _pid(process: Any) -> int:
    assert process.pid is not None
    return int(process.pid)


def _follow(run: Run, pipe: Connection, length: float) -> bool:
    """Note what a process tells in one turn, and whether it has ended."""
    began = time.perf_counter()
    before = run.seconds
    ended = False
    while not ended and pipe.poll(max(0.0, length - (time.perf_counter() - began))):
        name, figure = pipe.recv()
        run.seconds = before + time.perf_counter() - began
        if name is None:
            run.processor_seconds, ended = figure, True
        else:
            run.stages.append(Stage(name, run.seconds, figure))
    run.seconds = before + time.perf_counter() - began
    return ended


def _work(prepare: Prepare, pipe: Connection, threads: int) -> None:
    torch.set_num_threads(threads)
    work = prepare()
    pipe.send("ready")
    pipe.recv()
    began = time.process_time()
    outcome = work(lambda name, figure: pipe.send((name, figure)))
    pipe.send((None, time.process_time() - began))
    pipe.send(outcome)
