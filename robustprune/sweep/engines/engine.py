"""What an engine is: it takes tasks and says what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


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
class Progress:
    """A task says how far it is: from 0 to 1."""

    name: str
    label: str
    share: float


@dataclass(frozen=True)
class Finished:
    """A task has returned."""

    name: str
    value: Any


@dataclass(frozen=True)
class Failed:
    """A task has raised, or its process is gone.

    Attributes:
        name: Of the task.
        error: Type and message, on one line.
        traceback: The whole story.
        is_expected: Whether it was an error of ours, whose message says everything.
        is_lost: Whether the process was killed, so that another try may do.
        is_disk_full: Whether there was no room to write to.
    """

    name: str
    error: str
    traceback: str = ""
    is_expected: bool = False
    is_lost: bool = False
    is_disk_full: bool = False


Event = Progress | Finished | Failed


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
