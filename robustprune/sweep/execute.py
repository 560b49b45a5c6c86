"""One stage, from claiming it to its place among the finished ones."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from robustprune.errors import RobustPruneWarning
from robustprune.sweep.graph import Stage
from robustprune.sweep.locks import claim, discard
from robustprune.sweep.store import Store

DONE, BUSY = "done", "busy"

WORK = "robustprune.sweep.kinds:do"
"""What does the work: named, not imported, as this is read by processes that have no need of torch."""


def run_stage(
    folder: str, stage: Mapping[str, Any], work: str = WORK, *, tell: Callable[[str, float], None]
) -> tuple[str, float]:
    """Do a stage, unless it is done or another process does it; return ``done`` or ``busy``, and its seconds.

    Args:
        folder: The sweep's.
        stage: What to do, as a mapping, since it came from another process.
        work: ``module:function`` that does it in the stage's folder of work, and returns its environment.
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
            environment = named(work)(wanted, store, tell)
        seconds = time.perf_counter() - start
        said = [str(each.message) for each in caught if issubclass(each.category, RobustPruneWarning)]
        store.publish(address, wanted, {"environment": environment, "warnings": said, "seconds": seconds})
        discard(store.lock(address))
    return DONE, seconds


def named(function: str) -> Callable[..., Any]:
    """Return the function that ``module:name`` names."""
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found
