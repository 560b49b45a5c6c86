"""A bar that shows how far work has come, on a terminal and in a notebook; elsewhere a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

    from robustprune.runtime.work import Progress

Item = TypeVar("Item")

# Seconds until the first line, and between two of them at least; and as a share of what has passed, so that a log of
# days stays short.
_FIRST_LINE, _LEAST_PAUSE, _PAUSE_SHARE = 2.0, 10.0, 0.1

_SHOWN: ContextVar[Progress | None] = ContextVar("shown", default=None)


@contextmanager
def progress_bar(console: Console | None = None) -> Iterator[Progress]:
    """Keep a bar with an estimate of the time that is left, on a terminal or in a notebook; elsewhere print lines.

    The first line comes after two seconds, the next ones ten seconds apart, and further the longer it has taken. The
    bar is given to whatever takes a :class:`robustprune.Work`, and goes when the work is done; reading images tells it
    without being asked::

        with rp.progress_bar() as bar:
            data = rp.load_data("imagefolder:photos", image_size=64)
            rp.train(ticket, data, work=rp.Work(progress=bar))

    Notebooks draw it with the package ``ipywidgets``.

    Args:
        console: Where it is drawn; by default on stderr, or below the cell of a notebook.

    Yields:
        A function of what is being done, how much of it is done, and how much there is.
    """
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from robustprune.runtime.contention import telling

    label, share = TextColumn("{task.description}", markup=False), TextColumn("{task.percentage:>3.0f}%")
    columns = (label, BarColumn(), share, TimeRemainingColumn())
    console = console or Console(stderr=True)

    def say(sentence: str) -> None:
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    if not (console.is_terminal or console.is_jupyter):
        with _shown(telling(_Lines(say).update, say)) as told:
            yield told
        return
    with Bar(*columns, console=console, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def update(label: str, done: float, total: float) -> None:
            if label not in tasks:
                tasks[label] = bar.add_task(label, total=total)
            elif not done:  # it begins again
                bar.reset(tasks[label])
            bar.update(tasks[label], completed=done, total=total)

        with _shown(telling(update, say)) as told:
            yield told


@contextmanager
def _shown(progress: Progress) -> Iterator[Progress]:
    token = _SHOWN.set(progress)
    try:
        yield progress
    finally:
        _SHOWN.reset(token)


def shown_progress() -> Progress | None:
    """Return the bar that is shown now, if any: for what is read on the way to the work, which takes no ``Work``."""
    return _SHOWN.get()


def counted(items: Collection[Item], progress: Progress | None, label: str) -> Iterator[Item]:
    """Yield the items one after the other, and tell how many the caller is done with."""
    for done, item in enumerate(items):
        if progress is not None:
            progress(label, done, len(items))
        yield item
    if progress is not None:
        progress(label, len(items), len(items))


class _Lines:
    """Says how far work has come, by a line now and then: ``training: 40 %, 2 min left``."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._start = say, time.monotonic()
        self._due = self._start + _FIRST_LINE
        self._begun: dict[str, tuple[float, float]] = {}

    def update(self, label: str, done: float, total: float) -> None:
        """Take note of how far one thing has come, and print a line if it is time for one."""
        now = time.monotonic()
        start, first = self._begun.get(label, (now, done))
        if done <= first:  # it begins, or begins again
            start, first = self._begun[label] = now, done
        if now < self._due:
            return
        self._due = now + max(_LEAST_PAUSE, _PAUSE_SHARE * (now - self._start))
        left = (now - start) * (total - done) / (done - first) if done > first else None
        estimate = "" if left is None or done >= total else f", {duration(left)} left"
        self._say(f"{label}: {100 * done / max(total, done, 1e-9):.0f} %{estimate}")


def duration(seconds: float) -> str:
    """Return seconds as readers count them: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
