"""A sweep from its file, or its runs, to its records: by workers, on Ray, or in this process."""

from __future__ import annotations

import re
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustprune.errors import PruningWarning, SweepError
from robustprune.runtime.threads import processors
from robustprune.sweep.document import read_document
from robustprune.sweep.engines import Engine
from robustprune.sweep.engines.local import LocalEngine, cards_alone
from robustprune.sweep.graph import Stage, SweepPlan, plan_key
from robustprune.sweep.scheduler import missing_stages, run_plan, run_plan_here
from robustprune.sweep.standing import stands_at
from robustprune.sweep.status import State, Watch
from robustprune.sweep.store import Store

if TYPE_CHECKING:
    from robustprune.data import ImageData
    from robustprune.records import Record
    from robustprune.runtime.work import Progress
    from robustprune.sweep.settings import RunSettings


@dataclass(frozen=True)
class Sweep:
    """What a sweep's file says, overlays and settings applied; not looked at before it has to be.

    Attributes:
        name: Of the sweep, as its plan is called.
        document: The settings.
        where: Said in errors.
    """

    name: str
    document: Mapping[str, Any]
    where: str

    @cached_property
    def runs(self) -> list[RunSettings]:
        """The runs that it means; a :class:`SweepError` where something in it makes no sense."""
        from robustprune.sweep.settings import expand

        return expand(self.document, self.where)


@dataclass(frozen=True)
class Evaluated:
    """What became of a run: the files of its network, and of the record of its evaluation."""

    ticket: Path
    record: Path

    def read(self) -> Record:
        """Return the record, which names the ticket where it is: the folder may have been moved."""
        from robustprune.records import load_record

        found = load_record(self.record)
        found.model.path = str(self.ticket)
        return found


def read_sweep(path: str | Path, overlays: Sequence[str | Path] = (), settings: Sequence[str] = ()) -> Sweep:
    """Return a sweep; the arguments are those of :func:`robustprune.sweep.document.read_document`.

    Raises:
        SweepError: A file that is missing or no YAML mapping, or a setting of another form.
    """
    document = read_document(path, overlays, settings)
    # What else follows a dot is part of the name, as in sweep-lr0.1.
    own = Path(path).name.removesuffix(".yaml").removesuffix(".yml")
    name = re.sub(r"[^\w.-]+", "-", str(document.get("name") or own)).strip(".-") or "sweep"  # as files may be called
    return Sweep(name, document, str(path))


def run_sweep(
    sweep: Sweep,
    folder: str | Path,
    *,
    workers: int | None = None,
    engine: str = "local",
    address: str | None = None,
    retry_failed: bool = False,
    watch: Watch | None = None,
) -> State:
    """Do what is left to do of a sweep, and return where it stands.

    What is done already, by this sweep or another one in the folder, is not done again.

    Args:
        sweep: From :func:`read_sweep`.
        folder: For everything that comes out.
        workers: Processes side by side; by default as many as there are cards that the runs may use, or processors for
            their threads.
        engine: ``local``, or ``ray``, whose machines have to see the folder under the same path.
        address: Of a Ray cluster; None starts one here.
        retry_failed: Try again what failed before.
        watch: Told of every change.

    Raises:
        SweepError: Something the runs name cannot be, or nothing can be written any more.
        KeyboardInterrupt: It was interrupted, or told to end; the next call goes on from there.
    """
    store = Store(Path(folder).absolute() if engine == "ray" else folder)
    with _interruptible():
        plan = _plan(sweep, store)
        store.keep_plan(sweep.name, plan)
        if retry_failed:
            for each in store.failed() & plan.stages.keys():
                store.forget_failure(each)
        now = stands_at(plan, store)
        if not missing_stages(now, store.done()):
            return State(now, set(now.stages))
        side_by_side = _start_engine(plan, workers, engine, address)
        try:
            return _look_after_look(plan, store, side_by_side, watch or (lambda *_: None))
        except OSError as error:
            raise SweepError(f"{error.strerror}: {error.filename or folder}") from error
        finally:
            side_by_side.close()


def _look_after_look(plan: SweepPlan, store: Store, engine: Engine, watch: Watch) -> State:
    """Do what is left to do of a plan: all of it, or what leads to each look until one ends the sweep."""
    seconds: dict[str, float] = {}
    while True:
        state = run_plan(stands_at(plan, store), store, engine, watch)
        seconds = state.seconds = {**seconds, **state.seconds}
        if state.failed or not missing_stages(stands_at(plan, store), store.done()):
            return state


def plan_sweep(sweep: Sweep, folder: str | Path) -> tuple[SweepPlan, dict[str, Stage]]:
    """Return the plan of a sweep, writing nothing, and the stages that are missing."""
    store = Store(folder)
    plan, done = _plan(sweep, store), store.done()
    now = stands_at(plan, store)
    # What there is to do at most: by the last look, unless an earlier one has decided.
    plan = plan if missing_stages(now, done) else now
    return plan, missing_stages(plan, done)


def run_here(
    name: str,
    runs: Sequence[RunSettings],
    data: ImageData | None,
    folder: str | Path,
    progress: Progress | None = None,
) -> list[Evaluated]:
    """Do what is left to do of runs in this process; return what became of each, in their order.

    All are on the images that are given, or each on those that its settings name. What comes out is kept in the folder,
    as that of a sweep, under the plan's name; ``progress`` is told of each stage.

    Raises:
        SweepError: Something the runs name cannot be, or the folder cannot be written.
        RobustPruneError: Whatever a stage raises; the next call goes on from there.
    """
    import torch

    from robustprune.sweep.resolve import plan_runs
    from robustprune.sweep.stages import do

    store, threads = Store(folder), torch.get_num_threads()
    plan, ends = plan_runs(runs, data)
    store.keep_plan(name, plan)
    try:
        run_plan_here(plan, store, partial(do, images=data), progress or (lambda *_: None))
    finally:
        torch.set_num_threads(threads)
    _warn_of_other_arithmetic(plan, store)
    return [Evaluated(store.stage(plan.stages[end].needs["network"]) / "ticket.pt", store.record(end)) for end in ends]


def _warn_of_other_arithmetic(plan: SweepPlan, store: Store) -> None:
    """Say so where networks are compared whose sums were rounded otherwise."""
    trained = [address for address, stage in plan.stages.items() if stage.kind in ("dense", "tune", "train")]
    for what in ("torch", "platform"):
        found = sorted({str(store.describe(address)["environment"].get(what)) for address in trained})
        if len(found) > 1:
            warnings.warn(
                f"networks that are compared were trained with {what} {' and '.join(found)}: their sums were rounded "
                "otherwise, which is one more difference between them",
                PruningWarning,
                stacklevel=3,
            )


def _plan(sweep: Sweep, store: Store) -> SweepPlan:
    key = plan_key(sweep.document)
    plan = store.known_plan(sweep.name, key)
    if plan is None:
        from robustprune.sweep.resolve import plan_runs
        from robustprune.sweep.settings import read_until

        plan, _ = plan_runs(sweep.runs, until=read_until(sweep.document))
        plan.key = key
    return plan


def choose_workers(plan: SweepPlan, workers: int | None) -> int:
    """Return how many processes to run side by side."""
    threads = _threads(plan)
    if threads > processors():
        raise SweepError(
            f"a run is to have {threads} threads, and this process may use {processors()} processors; lower threads"
        )
    cards = len(_cards(plan)) or len(_numbered(plan))
    return workers or cards or processors() // threads


def _threads(plan: SweepPlan) -> int:
    return max(int(stage.inputs["threads"]) for stage in plan.stages.values())


def _devices(plan: SweepPlan) -> set[str]:
    return {str(stage.hints["device"]) for stage in plan.stages.values()} - {"cpu"}


def _numbered(plan: SweepPlan) -> set[str]:
    """Return the cards that runs name by their number."""
    return {device for device in _devices(plan) if ":" in device}


def _cards(plan: SweepPlan) -> list[dict[str, str]]:
    """Return the environments of workers with a card each.

    There are none where a run names a card by its number, as a worker that sees one card alone knows it as number 0.
    """
    wanted = _devices(plan)
    return [] if not wanted or _numbered(plan) else cards_alone(wanted)


def _start_engine(plan: SweepPlan, workers: int | None, kind: str, address: str | None) -> Engine:
    if kind == "ray":
        from robustprune.sweep.engines.ray import RayEngine

        return RayEngine(address, workers=workers, gpu=bool(_devices(plan)))
    return LocalEngine(choose_workers(plan, workers), threads=_threads(plan), cards=_cards(plan))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM, which batch systems send, end a sweep as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
