"""Which stage is next: those that all they need is there for, in the order of the runs that want them."""

from __future__ import annotations

import heapq
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from robustprune.errors import SweepError
from robustprune.sweep.engines.engine import Engine, Event, Failed, Finished, Progress, Task
from robustprune.sweep.execute import BUSY, WORK
from robustprune.sweep.graph import Plan, Stage
from robustprune.sweep.store import Store

_TRIES = 3
_SECONDS_TO_WAIT_FOR_OTHERS = 0.5


@dataclass
class Running:
    """A stage that is being worked on."""

    since: float
    label: str = ""
    share: float = 0.0


@dataclass
class State:
    """Where a sweep stands; stages are addresses.

    Attributes:
        plan: What is to be done.
        done: Stages that are finished.
        running: Those that are being worked on here.
        elsewhere: Those that another sweep works on.
        failed: Those that failed, with the error.
        tracebacks: Files with the whole story of those that failed now.
        blocked: Those that need one that failed.
        seconds: How long those took that were finished now.
    """

    plan: Plan
    done: set[str]
    running: dict[str, Running] = field(default_factory=dict)
    elsewhere: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    tracebacks: dict[str, Path] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left that could be done."""
        return len(self.done) + len(self.failed) + len(self.blocked) == len(self.plan.stages)

    @property
    def finished_runs(self) -> int:
        """How many runs have their record."""
        return sum(run.stage in self.done for run in self.plan.runs)


Watch = Callable[[State, str], None]
"""Called with the state, and the address of the stage that something has just become of, or an empty string."""


def carry_out(plan: Plan, store: Store, engine: Engine, watch: Watch, *, work: str = WORK) -> State:
    """Do all stages of a plan that are not done and have not failed before; return where that ends.

    Args:
        plan: What is to be done.
        store: Where.
        engine: By whom.
        watch: Told of every change.
        work: What does a stage, see :func:`robustprune.sweep.execute.run_stage`.

    Raises:
        SweepError: The disk is full; everything so far is kept.
    """
    return _Scheduler(plan, store, engine, watch, work).run()


class _Scheduler:
    def __init__(self, plan: Plan, store: Store, engine: Engine, watch: Watch, work: str) -> None:
        self.store, self.engine, self.watch, self.work = store, engine, watch, work
        there, failed = store.done(), store.failed()
        self.state = State(plan, plan.stages.keys() - missing_stages(plan, there).keys())
        self.tries: defaultdict[str, int] = defaultdict(int)
        self.wanted_by: defaultdict[str, list[str]] = defaultdict(list)
        self.missing: dict[str, int] = {}
        self.ready: list[tuple[int, str]] = []
        self.places = {address: place for place, address in enumerate(plan.stages)}
        for address, stage in plan.stages.items():
            needs = set(stage.needs.values())
            for need in needs:
                self.wanted_by[need].append(address)
            self.missing[address] = len(needs - self.state.done)
        for address in [each for each in plan.stages if each not in self.state.done]:
            if address in failed:
                self._give_up(address, "failed before; --retry-failed tries it again")
            elif not self.missing[address]:
                self._enqueue(address)

    def run(self) -> State:
        self.watch(self.state, "")
        while not self.state.is_over:
            self._start_what_can_be()
            for event in self.engine.wait(_SECONDS_TO_WAIT_FOR_OTHERS):
                self._note(event)
            self._look_elsewhere()
            self.watch(self.state, "")
        self.store.discard_locks(self.state.done)
        return self.state

    def _enqueue(self, address: str) -> None:
        if address not in self.state.blocked:
            heapq.heappush(self.ready, (self.places[address], address))

    def _start_what_can_be(self) -> None:
        while self.ready and len(self.state.running) < self.engine.workers:
            _, address = heapq.heappop(self.ready)
            stage = self.state.plan.stages[address]
            self.state.running[address] = Running(time.monotonic())
            arguments = (str(self.store.folder), asdict(stage), self.work)
            threads = stage.inputs.get("threads", 1)
            self.engine.submit(Task(address, "robustprune.sweep.execute:run_stage", arguments, threads))

    def _note(self, event: Event) -> None:
        if isinstance(event, Progress):
            if event.name in self.state.running:
                self.state.running[event.name].label = event.label
                self.state.running[event.name].share = event.share
            return
        del self.state.running[event.name]
        if isinstance(event, Finished):
            outcome, seconds = event.value
            if outcome == BUSY:
                self.state.elsewhere[event.name] = time.monotonic()
                return
            self.state.seconds[event.name] = seconds
            self._finish(event.name)
        else:
            self._fail(event)

    def _finish(self, address: str) -> None:
        self.state.done.add(address)
        self.watch(self.state, address)
        for wanting in self.wanted_by[address]:
            self.missing[wanting] -= 1
            if not self.missing[wanting]:
                self._enqueue(wanting)

    def _fail(self, event: Failed) -> None:
        if event.is_disk_full:
            raise SweepError(
                f"there is no room left for {self.store.folder}: {event.error}. What is finished is kept; make room, "
                "and start the sweep again"
            )
        self.tries[event.name] += 1
        if event.is_lost and self.tries[event.name] < _TRIES:
            self._enqueue(event.name)
            return
        stage = self.state.plan.stages[event.name]
        self.state.tracebacks[event.name] = self.store.record_failure(stage, event.error, event.traceback)
        self._give_up(event.name, event.error)
        self.watch(self.state, event.name)

    def _give_up(self, address: str, error: str) -> None:
        self.state.failed[address] = error
        self.state.blocked.discard(address)
        waiting = list(self.wanted_by[address])
        while waiting:
            blocked = waiting.pop()
            if not any(blocked in those for those in (self.state.blocked, self.state.failed, self.state.done)):
                self.state.blocked.add(blocked)
                waiting += self.wanted_by[blocked]

    def _look_elsewhere(self) -> None:
        """See what has become of the stages that other sweeps work on: done, failed, or left to us."""
        for address, since in list(self.state.elsewhere.items()):
            if time.monotonic() - since >= _SECONDS_TO_WAIT_FOR_OTHERS:
                del self.state.elsewhere[address]
                if self.store.is_done(address):
                    self._finish(address)
                elif self.store.failure(address).exists():
                    self._give_up(address, "failed in another sweep; --retry-failed tries it again")
                else:
                    self._enqueue(address)


def missing_stages(plan: Plan, there: set[str]) -> dict[str, Stage]:
    """Return the stages still to be done: what is not there of all that missing records and comparisons need."""
    missing: dict[str, None] = {}
    for end in plan.ends:
        waiting = [] if end in there else [end]
        while waiting:
            address = waiting.pop()
            if address not in there and address not in missing:
                missing[address] = None
                waiting += plan.stages[address].needs.values()
    return {address: stage for address, stage in plan.stages.items() if address in missing}
