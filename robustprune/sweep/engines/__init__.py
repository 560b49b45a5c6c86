"""What an engine is: it takes tasks, calls of functions in other processes, and says what becomes of them."""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

_SECONDS_BETWEEN_REPORTS = 0.5
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Task:
    """A call of a function in another process.

    Attributes:
        name: Of the task; no two at the same time have the same.
        function: ``module:name``; also given ``tell``, to say how far it is.
        arguments: JSON-able.
        threads: How many it computes with.
    """

    name: str
    function: str
    arguments: tuple[Any, ...] = ()
    threads: int = 1


@dataclass(frozen=True)
class TaskProgress:
    """A task says how far it is: from 0 to 1."""

    name: str
    label: str
    share: float


@dataclass(frozen=True)
class TaskFinished:
    """A task has returned."""

    name: str
    value: Any


@dataclass(frozen=True)
class TaskFailed:
    """A task has raised, or its process is gone.

    Attributes:
        name: Of the task.
        error: Type and message, on one line.
        traceback: The whole story.
        is_lost: Whether the process was killed, so that another try may do.
        is_disk_full: Whether there was no room to write to.
    """

    name: str
    error: str
    traceback: str = ""
    is_lost: bool = False
    is_disk_full: bool = False


Event = TaskProgress | TaskFinished | TaskFailed


class Engine(Protocol):
    """Runs tasks side by side."""

    @property
    def workers(self) -> int:
        """How many tasks it runs at a time."""

    def submit(self, task: Task) -> None:
        """Start a task; there have to be fewer under way than ``workers``."""

    def wait(self, seconds: float) -> list[Event]:
        """Return what has happened, as soon as something has, or nothing once the time is up."""

    def close(self) -> None:
        """Stop whatever is under way."""


def attempt(task: Task, report: Callable[[Event], None]) -> Event:
    """Do a task in this process, and return how it ended."""
    last = 0.0

    def tell(label: str, share: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_REPORTS:
            last = now
            report(TaskProgress(task.name, label, share))

    try:
        return TaskFinished(task.name, named(task.function)(*task.arguments, tell=tell))
    except Exception as error:
        return TaskFailed(
            task.name,
            f"{type(error).__name__}: {' '.join(str(error).split())}",
            traceback.format_exc(),
            is_disk_full=_is_disk_full(error),
        )


def named(function: str) -> Callable[..., Any]:
    """Return the function that ``module:name`` names."""
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def _is_disk_full(error: BaseException | None) -> bool:
    if error is None:
        return False
    return getattr(error, "errno", None) in _NO_ROOM or _is_disk_full(error.__cause__ or error.__context__)
