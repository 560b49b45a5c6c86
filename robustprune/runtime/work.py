"""How work is carried out: where, with how many threads, by whom, whom it tells. None of it changes a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from robustprune.runtime.process_group import SINGLE, ProcessGroup

Progress = Callable[[str, float, float], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Work:
    """How work is carried out.

    Attributes:
        processes: Those that share it, each calling alike; all are returned the result of all.
        progress: Called with what is being done, how much of it is done, and how much there is.
        folder: Where it keeps how far it has come, so that an interrupted one is picked up there; None keeps nothing.
        kept: The files there that this work has written or gone on from, by this process; others may share the folder.
    """

    processes: ProcessGroup = SINGLE
    progress: Progress | None = None
    folder: Path | None = None
    kept: set[Path] = field(default_factory=set, compare=False)


def labelled(progress: Progress | None, label: str) -> Callable[[float, float], None] | None:
    """Return ``progress`` with its label filled in."""
    return None if progress is None else lambda done, total: progress(label, done, total)


def steps(progress: Callable[[float, float], None] | None, total: int) -> Callable[[], None]:
    """Tell that nothing is done of so many steps, and return what is called after each of them."""
    done = 0

    def tell() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    if progress is not None:
        progress(0, total)
    return tell
