"""Where a sweep stands, how far it is and how long it will take: figures and lines, for whoever draws them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from robustprune.sweep.graph import Stage, SweepPlan
from robustprune.sweep.standing import describe_look, stands_at
from robustprune.sweep.store import Store, is_held


@dataclass
class Running:
    """A stage that is being worked on."""

    since: float
    label: str = ""
    share: float = 0.0
    shortage: str | None = None


@dataclass
class State:
    """Where a sweep stands; stages are addresses.

    Attributes:
        plan: What is to be done.
        done: Stages that are finished.
        running: Those that are being worked on here.
        elsewhere: Those that another sweep works on, and since when.
        failed: Those that failed, with the error; what needs one of them waits for the next time.
        tracebacks: Files with the whole story of those that failed now.
        seconds: How long those took that were finished now.
    """

    plan: SweepPlan
    done: set[str]
    running: dict[str, Running] = field(default_factory=dict)
    elsewhere: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    tracebacks: dict[str, Path] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def finished_runs(self) -> int:
        """How many runs have their record."""
        return sum(run.stage in self.done for run in self.plan.runs)


Watch = Callable[[State, str], None]
"""Called with the state, and the address of the stage that something has just become of, or an empty string."""


class Standing(NamedTuple):
    """Where the runs of a sweep stand."""

    runs: int
    finished: int
    failed: int
    running: int
    waiting: int


def standing(plan: SweepPlan, done: Iterable[str], failed: Iterable[str], running: Iterable[str]) -> Standing:
    """Return how many runs are finished, have failed, are being worked on, and wait.

    A stage that several runs need counts for each of them.
    """
    done, failed, running = set(done), set(failed), set(running)
    counts: Counter[str] = Counter()
    for run in plan.runs:
        if run.stage in done:
            counts["finished"] += 1
        elif failed.intersection(run.needs):
            counts["failed"] += 1
        elif running.intersection(run.needs):
            counts["running"] += 1
        else:
            counts["waiting"] += 1
    return Standing(len(plan.runs), *(counts[name] for name in ("finished", "failed", "running", "waiting")))


def line(state: State, address: str) -> str:
    """Return a line about the stage that something has just become of."""
    stage = state.plan.stages[address]
    count = f"{len(state.done)}/{len(state.plan.stages)}"
    if address in state.failed:
        where = state.tracebacks.get(address)
        return f"{count} failed: {_name(stage)}: {state.failed[address]}" + (f" ({where})" if where else "")
    return f"{count} {_name(stage)}, {state.seconds.get(address, 0.0):.1f} s"


def _name(stage: Stage) -> str:
    return f"{stage.kind} of {stage.label}"


def status(store: Store) -> list[dict[str, Any]]:
    """Return where each sweep of a folder stands; read from its files alone, whoever works on them."""
    done, failed = store.done(), store.failed()
    running = {path.name for path in store.folder.glob("work/*") if is_held(store.lock(path.name))}
    return [
        {
            "sweep": name,
            **standing(plan, done, failed, running)._asdict(),
            "look": describe_look(plan, store),
            "stages": len(plan.stages),
            "stages_done": len(plan.stages.keys() & done),
            "running_stages": [_name(plan.stages[each]) for each in running & plan.stages.keys()],
            "short_of_processors": {
                _name(plan.stages[each]): sentence
                for each in running & plan.stages.keys()
                if (sentence := store.shortage(each))
            },
            "failures": {
                address: {"stage": _name(plan.stages[address]), "file": str(store.failure(address))}
                for address in sorted(failed & plan.stages.keys())
            },
        }
        for name, plan in ((name, stands_at(whole, store)) for name, whole in store.plans().items())
    ]


def summarize(state: State, store: Store) -> dict[str, Any]:
    """Return where a sweep stands, for JSON."""
    runs, stages = state.plan.runs, state.plan.stages
    compared = [address for address in state.plan.comparisons if address in state.done]
    return {
        "runs": len(runs),
        "finished": state.finished_runs,
        "look": describe_look(state.plan, store),
        "stages": len(stages),
        "done_now": len(state.seconds),
        "seconds_of_work": sum(state.seconds.values()),
        "failed": {
            address: {"stage": _name(stages[address]), "error": error} for address, error in state.failed.items()
        },
        "comparisons": [str(store.stage(address) / "comparison.json") for address in compared],
        "compared": [stages[address].hints["title"] for address in compared],
        "records": {run.name: str(store.record(run.stage)) for run in runs if run.stage in state.done},
    }
