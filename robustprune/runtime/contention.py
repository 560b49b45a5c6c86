"""How much of the processors a process gets of what it asks for, from Linux's own count. Loads no torch.

For each thread, Linux counts for how long it ran, and for how long it could have run but waited for a processor
(``/proc/PID/task/TID/schedstat``, Documentation/scheduler/sched-stats.rst). Threads that wait for a disk or for each
other are in neither, so that work which uses one thread by nature looks as unhindered as it is. Other systems keep no
such count, and nothing is said there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from robustprune.runtime.threads import processors

Counts = dict[str, tuple[int, int]]
"""Thread → nanoseconds that it ran, and nanoseconds that it waited for a processor."""

_LEAST_SECONDS = 3.0  # of watching: the system hands out processors in turns of some milliseconds
_SECONDS_BETWEEN_WORDS = 60.0
_LITTLE = 0.5  # of what it asked for
_IDLE = 0.25  # processors: who asks for less computes little, and a hundredth of a second here or there is no matter


class Shortage:
    """Watches this process, and says when it gets less than half of the processors that it asks for."""

    def __init__(self, tasks: Path = Path("/proc/self/task"), clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to watch; ``tasks`` has a folder for each thread."""
        self._tasks, self._clock = tasks, clock
        self._since, self._counts = clock(), read_counts(tasks)
        self._latest: str | None = None

    def look(self) -> str | None:
        """Return a sentence while processors are short, of the last few seconds; None while they are not."""
        now = self._clock()
        if now - self._since >= _LEAST_SECONDS:
            counts = read_counts(self._tasks)
            self._latest = describe(self._counts, counts, now - self._since)
            self._since, self._counts = now, counts
        return self._latest


def read_counts(tasks: Path) -> Counts:
    """Return the counts of the threads of a process; empty where the system keeps none."""
    found: Counts = {}
    for path in tasks.glob("*/schedstat"):
        try:
            ran, waited, _turns = path.read_text().split()
        except (OSError, ValueError):  # the thread has just ended
            continue
        found[path.parent.name] = int(ran), int(waited)
    return found


def describe(before: Counts, after: Counts, seconds: float) -> str | None:
    """Return what to say of a process that got less than half of what it asked for between two counts."""
    threads = [(*counts, *before.get(name, (0, 0))) for name, counts in after.items()]
    got = sum(ran - earlier for ran, _, earlier, _ in threads) / 1e9 / seconds
    asked = got + sum(waited - earlier for _, waited, _, earlier in threads) / 1e9 / seconds
    if asked < _IDLE or got >= _LITTLE * min(asked, processors()):
        return None
    reason = "other work on this machine makes times and energy unreliable"
    return f"gets {got:.2g} of {min(asked, processors()):.2g} processors: {reason}"


def telling(
    progress: Callable[[str, float, float], None], say: Callable[[str], None]
) -> Callable[[str, float, float], None]:
    """Return what tells of progress, and says now and then that processors are short while they are."""
    shortage, warn = Shortage(), now_and_then(say)

    def tell(label: str, done: float, total: float) -> None:
        progress(label, done, total)
        if sentence := shortage.look():
            warn(f"This process {sentence}")

    return tell


def now_and_then(say: Callable[[str], None]) -> Callable[[str], None]:
    """Return what says something at most once a minute."""
    last = -math.inf

    def speak(sentence: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_WORDS:
            last = time.monotonic()
            say(sentence)

    return speak
