"""A process that does one task after the other, for as long as the process that started it lives."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

from robustprune.errors import RobustPruneError
from robustprune.runtime.launch import once_each
from robustprune.sweep.engines.engine import Event, Failed, Finished, Progress, Task
from robustprune.sweep.execute import named

_SECONDS_BETWEEN_REPORTS = 0.5
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def serve(pipe: Connection) -> None:
    """Do the tasks that come through a pipe until it closes."""
    warnings.showwarning = once_each(lambda line: print(line, file=sys.stderr))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the scheduler decides what to do
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            task: Task = pipe.recv()
        except EOFError:
            return
        pipe.send(attempt(task, pipe.send))


def attempt(task: Task, report: Callable[[Event], None]) -> Event:
    """Do a task, and return how it ended."""
    last = 0.0

    def tell(label: str, share: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_REPORTS:
            last = now
            report(Progress(task.name, label, share))

    try:
        return Finished(task.name, named(task.function)(*task.arguments, tell=tell))
    except Exception as error:
        return Failed(
            task.name,
            f"{type(error).__name__}: {' '.join(str(error).split())}",
            traceback.format_exc(),
            is_expected=isinstance(error, RobustPruneError),
            is_disk_full=any(getattr(each, "errno", None) in _NO_ROOM for each in _causes(error)),
        )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _end_with_parent() -> Any:
    """Leave no orphan at work: whoever starts the sweep again would find its stages locked."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
