"""A bar that shows how far work has come, on a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from robustprune.runtime.work import Progress


@contextmanager
def progress_bar(console: Console | None = None) -> Iterator[Progress]:
    """Keep a bar with an estimate of the time that is left, on a terminal or in a notebook; elsewhere nothing.

    It is given to whatever takes a :class:`robustprune.Work`, and goes when the work is done::

        with rp.progress_bar() as bar:
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
    seen = console.is_terminal or console.is_jupyter
    with Bar(*columns, console=console, transient=True, disable=not seen) as bar:
        tasks: dict[str, Any] = {}

        def update(label: str, done: float, total: float) -> None:
            if label not in tasks:
                tasks[label] = bar.add_task(label, total=total)
            bar.update(tasks[label], completed=done)

        yield telling(update, lambda sentence: console.print(sentence, markup=False, highlight=False, soft_wrap=True))
