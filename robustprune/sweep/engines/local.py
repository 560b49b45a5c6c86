"""Worker processes on this machine, with its threads, and its accelerators, divided among them."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

from robustprune.runtime.launch import environment_variables, once_each
from robustprune.sweep.engines import Event, Task, TaskFailed, TaskFinished, attempt

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

_CARD_VARIABLES = {"cuda": "CUDA_VISIBLE_DEVICES", "xpu": "ZE_AFFINITY_MASK"}
"""Which cards a process sees: of CUDA's or ROCm's, and of oneAPI's."""


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    task: Task | None = None


class LocalEngine:
    """Processes that are started when they are first needed, and replaced when they die."""

    def __init__(self, workers: int, *, threads: int = 1, cards: Sequence[Mapping[str, str]] = ()) -> None:
        """Prepare ``workers`` processes of ``threads`` threads; worker i starts in the environment ``cards[i]``."""
        self._slots: list[_Worker | None] = [None] * workers
        self._threads, self._cards = threads, cards

    @property
    def workers(self) -> int:
        """How many tasks it runs at a time."""
        return len(self._slots)

    def submit(self, task: Task) -> None:
        """Give a task to an idle worker, preferably one that is there already."""
        idle = [place for place, worker in enumerate(self._slots) if worker is None or worker.task is None]
        place = min(idle, key=lambda each: self._slots[each] is None)
        worker = self._slots[place] or self._start(place)
        self._slots[place] = worker
        worker.task = task
        with suppress(BrokenPipeError):  # it has just died, which is found out below
            worker.pipe.send(task)

    def wait(self, seconds: float) -> list[Event]:
        """Return what has happened, as soon as something has, or nothing once the time is up."""
        busy = {place: worker for place, worker in enumerate(self._slots) if worker is not None and worker.task}
        if not busy:
            time.sleep(seconds)
            return []
        ready = wait([each for worker in busy.values() for each in (worker.pipe, worker.process.sentinel)], seconds)
        events: list[Event] = []
        for place, worker in busy.items():
            if worker.pipe in ready or worker.process.sentinel in ready:
                events += self._hear(place, worker)
        return events

    def _hear(self, place: int, worker: _Worker) -> Iterator[Event]:
        try:
            while worker.pipe.poll():
                event: Event = worker.pipe.recv()
                if isinstance(event, TaskFinished | TaskFailed):
                    worker.task = None
                yield event
        except (EOFError, OSError):
            worker.process.join()
        if not worker.process.is_alive():
            self._slots[place] = None
            if worker.task is not None:
                yield TaskFailed(
                    worker.task.name, f"its process ended by {_cause(worker.process.exitcode)}", is_lost=True
                )

    def _start(self, place: int) -> _Worker:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), daemon=True)
        variables = dict.fromkeys(_THREAD_VARIABLES, str(self._threads))
        if self._cards:
            variables.update(self._cards[place % len(self._cards)])
        with environment_variables(variables):
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def close(self) -> None:
        """End all workers, at once: what they do is kept as far as it is finished."""
        there = [worker for worker in self._slots if worker is not None]
        for worker in there:
            worker.process.kill()
        for worker in there:
            worker.process.join()
            worker.pipe.close()
        self._slots = [None] * len(self._slots)


def cards_alone(wanted: Collection[str]) -> list[dict[str, str]]:
    """Return, for each card that work may use, the environment in which a process sees no other card.

    Nothing is started on any card. Of an accelerator whose cards no variable hides, there is one environment: further
    processes would compute on the same card.

    Args:
        wanted: Names of devices without numbers: ``auto``, ``cuda``, ``xpu``, ….
    """
    from robustprune.runtime.devices import devices_here

    cards = [name for name in devices_here() if name != "cpu"]
    kind = cards[0].partition(":")[0] if cards else ""
    if not {"auto", kind} & set(wanted) or not cards:
        return []
    variable = _CARD_VARIABLES.get(kind)
    if variable is None:
        return [{}]
    chosen = os.environ.get(variable)
    names = chosen.split(",") if chosen else map(str, range(len(cards)))
    return [{variable: name.strip()} for name, _ in zip(names, cards, strict=False)]


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"{signal.Signals(-code).name}, as when memory runs out"
    return f"itself with code {code}"


def _serve(pipe: Connection) -> None:
    """Do the tasks that come through a pipe, one after the other, until it closes or whoever holds it is gone."""
    warnings.showwarning = once_each(lambda line: print(line, file=sys.stderr))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the scheduler decides what to do
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            task: Task = pipe.recv()
        except EOFError:
            return
        pipe.send(attempt(task, pipe.send))


def _end_with_parent() -> Any:
    """Leave no orphan at work: whoever starts the sweep again would find its stages locked."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
