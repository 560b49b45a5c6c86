"""Which stage is next: those that all they need is there for, in the order of the runs that want them."""

from __future__ import annotations

import heapq
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

from robustprune.errors import RobustPruneWarning, SweepError
from robustprune.runtime.contention import Shortage
from robustprune.sweep.engines import Engine, Event, Task, TaskFailed, TaskProgress, named
from robustprune.sweep.graph import Stage, SweepPlan
from robustprune.sweep.status import Running, State, Watch
from robustprune.sweep.store import Store, claim

if TYPE_CHECKING:
    from robustprune.runtime.work import Progress

Work = Callable[[Stage, Store, Callable[[str, float], None]], dict[str, Any]]
WORK = "robustprune.sweep.stages:do"
"""What does the work of a stage: named, not imported, as this is read by processes that have no need of torch."""

_TRIES = 3
_SECONDS_TO_WAIT_FOR_OTHERS = 0.5


def run_plan(plan: SweepPlan, store: Store, engine: Engine, watch: Watch, *, work: str = WORK) -> State:
    """Do all stages of a plan that are not done and have not failed before; return where that ends.

    Raises:
        SweepError: The disk is full; everything so far is kept.
    """
    return _Scheduler(plan, store, engine, watch, work).run()


class _Scheduler:
    def __init__(self, plan: SweepPlan, store: Store, engine: Engine, watch: Watch, work: str) -> None:
        self.store, self.engine, self.watch, self.work = store, engine, watch, work
        missing = missing_stages(plan, store.done())
        failed = dict.fromkeys(missing.keys() & store.failed(), "failed before; --retry-failed tries it again")
        self.state = State(plan, plan.stages.keys() - missing.keys(), failed=failed)
        self.tries: Counter[str] = Counter()
        self.places = {address: place for place, address in enumerate(plan.stages)}
        self.order = TopologicalSorter(
            {address: missing.keys() & stage.needs.values() for address, stage in missing.items()}
        )
        self.order.prepare()
        self.ready: list[tuple[int, str]] = []
        self._enqueue(*self.order.get_ready())

    def run(self) -> State:
        self.watch(self.state, "")
        while self.ready or self.state.running or self.state.elsewhere:
            self._start_what_can_be()
            for event in self.engine.wait(_SECONDS_TO_WAIT_FOR_OTHERS):
                self._note(event)
            self._look_elsewhere()
            self.watch(self.state, "")
        return self.state

    def _enqueue(self, *addresses: str) -> None:
        for address in addresses:
            if address not in self.state.failed:
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
                self.state.running[event.name].shortage = self.store.shortage(event.name)
            return
        del self.state.running[event.name]
        if isinstance(event, TaskFailed):
            self._fail(event)
            return
        if event.value is None:
            self.state.elsewhere[event.name] = time.monotonic()
        else:
            self.state.seconds[event.name] = event.value
            self._finish(event.name)

    def _finish(self, address: str) -> None:
        self.state.done.add(address)
        self.watch(self.state, address)
        self.order.done(address)
        self._enqueue(*self.order.get_ready())

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
        self.state.failed[event.name] = event.error
        self.watch(self.state, event.name)

    def _look_elsewhere(self) -> None:
        """See what has become of the stages that other sweeps work on: done, failed, or left to us."""
        for address, since in list(self.state.elsewhere.items()):
            if time.monotonic() - since >= _SECONDS_TO_WAIT_FOR_OTHERS:
                del self.state.elsewhere[address]
                if self.store.is_done(address):
                    self._finish(address)
                elif self.store.failure(address).exists():
                    self.state.failed[address] = "failed in another sweep; --retry-failed tries it again"
                else:
                    self._enqueue(address)


def missing_stages(plan: SweepPlan, there: set[str]) -> dict[str, Stage]:
    """Return the stages still to be done: what is not there of all that missing records and comparisons need."""
    missing: set[str] = set()
    waiting = [*(run.stage for run in plan.runs), *plan.comparisons]
    while waiting:
        address = waiting.pop()
        if address not in there and address not in missing:
            missing.add(address)
            waiting += plan.stages[address].needs.values()
    return {address: stage for address, stage in plan.stages.items() if address in missing}


def run_plan_here(plan: SweepPlan, store: Store, work: Work, progress: Progress) -> None:
    """Do all stages of a plan that are not done in this process, one after the other; what a stage raises is raised."""
    for address, stage in missing_stages(plan, store.done()).items():

        def tell(_doing: str, share: float, label: str = f"{stage.kind} of {stage.label}") -> None:
            progress(label, share, 1.0)

        tell("", 0.0)
        while run_stage(str(store.folder), asdict(stage), work, tell=tell) is None:
            time.sleep(_SECONDS_TO_WAIT_FOR_OTHERS)
        for said in store.describe(address)["warnings"]:
            warnings.warn(said, RobustPruneWarning, stacklevel=3)


def run_stage(
    folder: str, stage: Mapping[str, Any], work: str | Work = WORK, *, tell: Callable[[str, float], None]
) -> float | None:
    """Do a stage, unless it is done; return its seconds, or None where another process does it.

    ``work``, a function or ``module:name``, does it in the stage's folder of work, and returns its environment. What it
    raises is raised; what it has done so far stays for the next time. ``tell`` hears what is being done, and how much
    of it is, from 0 to 1.
    """
    store, wanted = Store(folder), Stage(**stage)
    address = wanted.address
    with claim(store.lock(address)) as is_ours:
        if not is_ours:
            return None
        if store.is_done(address):
            return 0.0
        start = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RobustPruneWarning)
            store.work(address).mkdir(parents=True, exist_ok=True)
            watched = _noting_shortage(tell, store, address)
            environment = (named(work) if isinstance(work, str) else work)(wanted, store, watched)
        store.note_shortage(address, None)
        seconds = time.perf_counter() - start
        said = [str(each.message) for each in caught if issubclass(each.category, RobustPruneWarning)]
        store.publish(address, wanted, {"environment": environment, "warnings": said, "seconds": seconds})
    return seconds


def _noting_shortage(tell: Callable[[str, float], None], store: Store, address: str) -> Callable[[str, float], None]:
    """Return what tells of progress, and writes down for others while this process is short of processors."""
    shortage, noted = Shortage(), None
    store.note_shortage(address, None)

    def watched(label: str, share: float) -> None:
        nonlocal noted
        tell(label, share)
        sentence = shortage.look()
        if sentence != noted:
            noted = sentence
            store.note_shortage(address, sentence)

    return watched
