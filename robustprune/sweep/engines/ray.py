"""Tasks on a Ray cluster: one machine or many that share the sweep's folder.

Ray starts a task where there are processors (and a GPU) to spare, and starts it again elsewhere when its process or its
machine is gone. What comes out is files in the folder, which every machine has to see under the same path; Ray carries
nothing but the word that a task is done.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, redirect_stdout
from typing import TYPE_CHECKING, Any

from robustprune.errors import SweepError, in_one_line
from robustprune.registry import missing_package
from robustprune.sweep.engines import Event, Task, TaskFailed, attempt

if TYPE_CHECKING:
    from ray import ObjectRef

_RETRIES = 3


class RayEngine:
    """A connection to a cluster, or one that is started here for as long as it is needed."""

    def __init__(self, address: str | None = None, *, workers: int | None = None, gpu: bool = False) -> None:
        """Connect to the cluster whose head is at ``HOST:PORT``, ``auto`` for this machine's; None starts one here.

        At most ``workers`` tasks run at a time, by default as many as the cluster has processors; with ``gpu`` each
        gets a GPU of its own, where the cluster has some.

        Raises:
            MissingDependencyError: Ray is not installed.
            SweepError: There is no cluster at that address.
        """
        try:
            import ray
        except ModuleNotFoundError as error:
            raise missing_package("the engine 'ray'", "ray", extra="ray") from error
        self._ray: Any = ray
        self._while_connected = ExitStack()
        # Ray prints what befalls its nodes; stdout is for results.
        self._while_connected.enter_context(redirect_stdout(sys.stderr))
        try:
            # Of itself, Ray would join whatever cluster runs on this machine, somebody else's included.
            ray.init(
                address=address or "local", include_dashboard=False if address is None else None, log_to_driver=False
            )
        except Exception as error:
            self._while_connected.close()
            raise SweepError(f"there is no Ray cluster at {address or 'hand'}: {in_one_line(error)}") from error
        self._most, self._gpu = workers, gpu
        self._tasks: dict[ObjectRef[Event], str] = {}
        self._attempt = ray.remote(_attempt)

    @property
    def workers(self) -> int:
        """How many tasks it takes at a time: twice what can run, so that no machine waits, and at most ``workers``."""
        there = max(1, int(self._ray.cluster_resources().get("CPU", 1)))  # machines come and go
        return min(2 * there, self._most or 2 * there)

    def submit(self, task: Task) -> None:
        """Hand a task to the cluster."""
        gpus = 1 if self._gpu and self._ray.cluster_resources().get("GPU") else 0
        options = self._attempt.options(num_cpus=task.threads, num_gpus=gpus, max_retries=_RETRIES, name=task.name)
        self._tasks[options.remote(task)] = task.name

    def wait(self, seconds: float) -> list[Event]:
        """Return what has finished, as soon as something has, or nothing once the time is up."""
        if not self._tasks:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=seconds)
        events: list[Event] = []
        for reference in ready:
            name = self._tasks.pop(reference)
            try:
                events.append(self._ray.get(reference))
            except self._ray.exceptions.RayError as error:
                events.append(TaskFailed(name, f"Ray gave it up: {in_one_line(error)}", str(error), is_lost=True))
        return events

    def close(self) -> None:
        """Stop what is under way, and leave the cluster."""
        if self._ray.is_initialized():
            for reference in self._tasks:
                self._ray.cancel(reference, force=True)
            self._ray.shutdown()
        self._while_connected.close()
        self._tasks.clear()


def _attempt(task: Task) -> Event:
    return attempt(task, lambda _progress: None)
