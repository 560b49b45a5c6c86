"""A sweep from its file to its records."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robustprune.errors import SweepError
from robustprune.sweep.engines.engine import Engine
from robustprune.sweep.engines.local import LocalEngine, processors, visible_gpus
from robustprune.sweep.expand import expand
from robustprune.sweep.graph import Plan
from robustprune.sweep.planning import file_name, known_plan, make_plan
from robustprune.sweep.reading import read_document
from robustprune.sweep.scheduler import State, Watch, carry_out, missing_stages
from robustprune.sweep.spec import RunSettings
from robustprune.sweep.store import Store


def read_sweep(
    path: str | Path, overlays: Sequence[str | Path] = (), settings: Sequence[str] = ()
) -> tuple[str, list[RunSettings]]:
    """Return a sweep's name and its runs.

    Args:
        path: A YAML file.
        overlays: Further ones, whose settings take the place of its own.
        settings: ``a.b=value``, in place of all of them.

    Raises:
        SweepError: Something in them makes no sense.
    """
    document = read_document(path, overlays, settings)
    own = Path(path).name
    for ending in (".yaml", ".yml"):  # what else follows a dot is part of the name, as in sweep-lr0.1
        own = own.removesuffix(ending)
    return file_name(str(document.get("name") or own)), expand(document, str(path))


def run_sweep(
    name: str,
    runs: Sequence[RunSettings],
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
        name: Of the sweep.
        runs: From :func:`read_sweep`.
        folder: For everything that comes out.
        workers: Processes side by side; by default as many as there are GPUs, or processors for their threads.
        engine: ``local``, or ``ray``, whose machines have to see the folder under the same path.
        address: Of a Ray cluster; None starts one here.
        retry_failed: Try again what failed before.
        watch: Told of every change.

    Raises:
        SweepError: Something the runs name cannot be, or nothing can be written any more.
        KeyboardInterrupt: It was interrupted, or told to end; the next call goes on from there.
    """
    store = Store(Path(folder).absolute() if engine == "ray" else folder)
    with _engine(runs, workers, engine, address) as get_engine, _interruptible():
        plan = known_plan(runs, store, name) or make_plan(runs, store, name, get_engine())
        if retry_failed:
            for address in store.failed() & plan.stages.keys():
                store.forget_failure(address)
        state = State(plan, plan.stages.keys() - missing_stages(plan, store.done()).keys())
        if state.is_over:
            store.discard_locks(state.done)
            return state
        try:
            return carry_out(plan, store, get_engine(), watch or (lambda _state, _address: None))
        except OSError as error:
            raise SweepError(f"{error.strerror}: {error.filename or folder}") from error


def plan_sweep(name: str, runs: Sequence[RunSettings], folder: str | Path) -> tuple[Plan, dict[str, Any]]:
    """Return the plan of a sweep, writing nothing, and the stages that are missing."""
    store = Store(folder)
    with _engine(runs, 1) as get_engine:
        plan = known_plan(runs, store, name) or make_plan(runs, store, name, get_engine(), keep=False)
    return plan, dict(missing_stages(plan, store.done()))


def choose_workers(runs: Sequence[RunSettings], workers: int | None) -> int:
    """Return how many processes to run side by side.

    Raises:
        SweepError: More threads than processors.
    """
    threads = max(run.threads for run in runs)
    if threads > processors():
        raise SweepError(f"a run is to have {threads} threads, and there are {processors()} processors; lower threads")
    return workers or (len(visible_gpus()) if _wants_gpu(runs) else 0) or processors() // threads


def _wants_gpu(runs: Sequence[RunSettings]) -> bool:
    return any(run.device in ("auto", "cuda") for run in runs)


@contextmanager
def _engine(
    runs: Sequence[RunSettings], workers: int | None, kind: str = "local", address: str | None = None
) -> Iterator[Callable[[], Engine]]:
    """Yield a function that returns the engine, made when it is first asked for, and stop it in the end."""
    made: list[Engine] = []

    def engine() -> Engine:
        if not made:
            made.append(_local(runs, workers) if kind == "local" else _ray(runs, workers, address))
        return made[0]

    try:
        yield engine
    finally:
        for each in made:
            each.close()


def _local(runs: Sequence[RunSettings], workers: int | None) -> Engine:
    gpus = visible_gpus() if _wants_gpu(runs) else ()
    return LocalEngine(choose_workers(runs, workers), threads=max(run.threads for run in runs), gpus=gpus)


def _ray(runs: Sequence[RunSettings], workers: int | None, address: str | None) -> Engine:
    from robustprune.sweep.engines.ray import RayEngine

    return RayEngine(address, workers=workers, gpu=_wants_gpu(runs))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM, which batch systems send, end a sweep as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def summarize(state: State, store: Store) -> dict[str, Any]:
    """Return where a sweep stands, for JSON."""
    runs, stages = state.plan.runs, state.plan.stages
    compared = [address for address in state.plan.comparisons if address in state.done]
    return {
        "runs": len(runs),
        "finished": state.finished_runs,
        "stages": len(state.plan.stages),
        "done_now": len(state.seconds),
        "seconds_of_work": sum(state.seconds.values()),
        "failed": {
            address: {"stage": f"{stages[address].kind} of {stages[address].label}", "error": error}
            for address, error in state.failed.items()
        },
        "comparisons": [str(store.stage(address) / "comparison.json") for address in compared],
        "compared": [stages[address].hints["title"] for address in compared],
        "records": {run.name: str(store.record(run.stage)) for run in runs if run.stage in state.done},
    }
