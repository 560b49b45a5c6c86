"""How work is carried out: by whom, whom it tells, and where it is picked up. None of it changes a result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robustprune.runtime.processes import ALONE, Processes
from robustprune.runtime.progress import Progress


@dataclass(frozen=True)
class Work:
    """How work is carried out.

    Attributes:
        processes: Those that share it, each calling alike; all are returned the result of all.
        progress: Called with what is being done, how much of it is done, and how much there is.
        folder: Where it keeps how far it has come, so that an interrupted one is picked up there; None keeps nothing.
    """

    processes: Processes = ALONE
    progress: Progress | None = None
    folder: Path | None = None
