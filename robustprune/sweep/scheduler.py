"""Which stage is next: those that all they need is there for, in the order of the runs that want them."""

from __future__ import annotations

import heapq
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from robustprune.errors import RobustPruneWarning, SweepError
from robustprune.sweep.engines import Engine, Event, Task, TaskFailed, TaskFinished, TaskProgress, named
from robustprune.sweep.following import Running, State, Watch
from robustprune.sweep.graph import Stage, SweepPlan
from robustprune.sweep.store import Store, claim, discard

if TYPE_CHECKING:
    from robustprune.runtime.work import Progress

DONE, BUSY = "done", "busy"

Work = Callable[[Stage, Store, Callable[[str, float], None]], dict[str, Any]]
WORK = "robustprune.sweep.stages:do"
"""What does the work of a stage: named, not imported, as this is read by processes that have no need of torch."""

_TRIES = 3
_SECONDS_TO_WAIT_FOR_OTHERS = 0.5


def carry_out(plan: SweepPlan, store: Store, engine: Engine, watch: Watch, *, work: str = WORK) -> State:
    """Do all stages of a plan that are not done and have not failed before; return where that ends.

    Args:
        plan: What is to be done.
        store: Where.
        engine: By whom.
        watch: Told of every change.
        work: What does a stage, see :func:`run_stage`.

    Raises:
        SweepError: The disk is full; everything so far is kept.
    """
    return _Scheduler(plan, store, engine, watch, work).run()


class _Scheduler:
    def __init__(self, plan: SweepPlan, store: Store, engine: Engine, watch: Watch, work: str) -> None:
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
            self.engine.submit(Task(address, "robustprune.sweep.scheduler:run_stage", arguments, threads))

    def _note(self, event: Event) -> None:
        if isinstance(event, TaskProgress):
            if event.name in self.state.running:
                self.state.running[event.name].label = event.label
                self.state.running[event.name].share = event.share
            return
        del self.state.running[event.name]
        if isinstance(event, TaskFinished):
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

    def _fail(self, event: TaskFailed) -> None:
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


def missing_stages(plan: SweepPlan, there: set[str]) -> dict[str, Stage]:
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


def carry_out_here(plan: SweepPlan, store: Store, work: Work, progress: Progress) -> None:
    """Do all stages of a plan that are not done in this process, one after the other.

    Args:
        plan: What is to be done.
        store: Where.
        work: What does a stage, see :func:`run_stage`.
        progress: Told of each stage, and how much of it is done.

    Raises:
        Exception: Whatever a stage raises; what is done so far stays for the next time.
    """
    for address, stage in missing_stages(plan, store.done()).items():
        label = f"{stage.kind} of {stage.label}"
        progress(label, 0.0, 1.0)

        def tell(_doing: str, share: float, label: str = label) -> None:
            progress(label, share, 1.0)

        while run_stage(str(store.folder), asdict(stage), work, tell=tell)[0] == BUSY:
            time.sleep(_SECONDS_TO_WAIT_FOR_OTHERS)
        for said in store.describe(address)["warnings"]:
            warnings.warn(said, RobustPruneWarning, stacklevel=3)


def run_stage(
    folder: str, stage: Mapping[str, Any], work: str | Work = WORK, *, tell: Callable[[str, float], None]
) -> tuple[str, float]:
    """Do a stage, unless it is done or another process does it; return ``done`` or ``busy``, and its seconds.

    Args:
        folder: The sweep's.
        stage: What to do, as a mapping, since it came from another process.
        work: What does it in the stage's folder of work, and returns its environment: a function, or ``module:name``.
        tell: Called with what is being done and how much of it is done, from 0 to 1.

    Raises:
        Exception: Whatever the work raises; what it has done so far stays for the next time.
    """
    store, wanted = Store(folder), Stage(**stage)
    address = wanted.address
    with claim(store.lock(address)) as is_ours:
        if not is_ours:
            return BUSY, 0.0
        if store.is_done(address):
            discard(store.lock(address))
            return DONE, 0.0
        start = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RobustPruneWarning)
            store.work(address).mkdir(parents=True, exist_ok=True)
            environment = (named(work) if isinstance(work, str) else work)(wanted, store, tell)
        seconds = time.perf_counter() - start
        said = [str(each.message) for each in caught if issubclass(each.category, RobustPruneWarning)]
        store.publish(address, wanted, {"environment": environment, "warnings": said, "seconds": seconds})
        discard(store.lock(address))
    return DONE, seconds
