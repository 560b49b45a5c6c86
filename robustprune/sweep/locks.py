"""One process at a time for one stage, whoever started it.

The lock is the operating system's, on an open file: it vanishes with the process that holds it, however that ends, so
there are no stale locks to recover from. On NFS it holds between machines where the mount passes locks on (version 4
always does; version 3 unless mounted ``nolock``). Where it does not, two machines may do the same work, which is wasted
but harmless: a stage appears under its name in one rename, and the second one is thrown away.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Hold the lock at ``path``; yield False, at once, where another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A new object each time, and no thread's own: the same file may be asked for again from elsewhere.
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def discard(path: Path) -> None:
    """Remove the file of a lock, once what it guards is there and nobody needs it again.

    Another process may hold or take a lock on the removed file; it will find the stage done, and do nothing.
    """
    with suppress(OSError):
        path.unlink()


def is_held(path: Path) -> bool:
    """Return whether some process holds the lock; False where one may not even try to take it."""
    if not os.access(path, os.W_OK):
        return False
    with claim(path) as free:
        return not free
