"""A sweep's plan: made once in a worker, kept, and made again when anything it was made of may have changed.

Resolving defaults takes torch and the image sets, seconds at best; whether that is needed is found out in milliseconds,
from what the code and the images look like from outside.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from robustprune.errors import SweepError
from robustprune.runtime.files import hash_json, write_atomically
from robustprune.runtime.kinds import SWEEP_PLAN
from robustprune.sweep.engines.engine import Engine, Failed, Finished, Task
from robustprune.sweep.fingerprints import look_at, look_at_code
from robustprune.sweep.graph import SCHEMAS, Plan
from robustprune.sweep.spec import RunSettings
from robustprune.sweep.store import Store

_SECONDS, _TRIES = 0.5, 3


def known_plan(runs: Sequence[RunSettings], store: Store, name: str) -> Plan | None:
    """Return the plan of a sweep that was made before, if it still holds."""
    try:
        plan = Plan.from_json(store.plan_file(name).read_bytes())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    holds = plan.key == _key(runs) and all(look_at(path) == seen for path, seen in plan.watched.items())
    return plan if holds else None


def make_plan(runs: Sequence[RunSettings], store: Store, name: str, engine: Engine, *, keep: bool = True) -> Plan:
    """Have a worker make a plan, and keep it.

    Raises:
        SweepError: Something cannot be.
    """
    asked = [run.model_dump(mode="json") for run in runs]
    task = Task("plan", "robustprune.sweep.resolve:plan_runs", (asked,))
    tries = 1
    engine.submit(task)
    while True:
        for event in engine.wait(_SECONDS):
            if isinstance(event, Failed) and event.is_lost and tries < _TRIES:
                tries += 1
                engine.submit(task)
            elif isinstance(event, Failed):
                # Our own errors say what is wrong; of others, the traceback is worth something.
                message = event.error.partition(": ")[2] if event.is_expected else event.traceback or event.error
                raise SweepError(message)
            if isinstance(event, Finished):
                plan = Plan.from_json(event.value)
                plan.key = _key(runs)
                if keep:
                    _keep(plan, store, name)
                return plan


def _keep(plan: Plan, store: Store, name: str) -> None:
    try:
        write_atomically(store.plan_file(name), plan.to_json().encode(), SWEEP_PLAN)
    except OSError as error:
        raise SweepError(f"the plan cannot be written to {store.plan_file(name)}: {error.strerror}") from error


def file_name(name: str) -> str:
    """Return a sweep's name as it may stand in a file's."""
    return re.sub(r"[^\w.-]+", "-", name).strip(".-") or "sweep"


def _key(runs: Sequence[RunSettings]) -> str:
    return hash_json([SCHEMAS, look_at_code(), [run.model_dump(mode="json") for run in runs]])
