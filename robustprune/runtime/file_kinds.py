"""The kinds of file that are written here, and how each is told from all others, so that none replaces another's.

A file is looked at, never trusted by its name. What is no file of its kind is somebody's work: it is replaced only
within :func:`overwriting`.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

_OVERWRITES: ContextVar[bool] = ContextVar("overwrites", default=False)


@dataclass(frozen=True)
class FileKind:
    """A kind of file."""

    name: str  # with its article, for messages
    is_one: Callable[[Path], bool]  # whether a file is one; it may raise what reading raises

    def recognizes(self, path: Path) -> bool:
        """Return whether a file is of this kind; not where it cannot be read."""
        try:
            return self.is_one(path)
        except Exception:  # reading and decoding raise dozens of types
            return False


@contextmanager
def overwriting(allowed: bool) -> Iterator[None]:
    """Let files of other kinds be replaced for the block, if ``allowed``."""
    token = _OVERWRITES.set(allowed)
    try:
        yield
    finally:
        _OVERWRITES.reset(token)


def may_overwrite() -> bool:
    """Return whether files of other kinds may be replaced here."""
    return _OVERWRITES.get()


def check_replaceable(path: Path, kind: FileKind | None) -> None:
    """Check that nothing is lost when ``path`` is written: it is free, empty, or a file of the kind.

    Raises:
        OSError: A folder or a device is there, or a file of another kind.
    """
    try:
        found = path.stat()
    except OSError:
        return  # it is free; whatever else is wrong with it, writing says
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder (a directory), not a file", str(path))
    if not stat.S_ISREG(found.st_mode):
        raise FileExistsError(errno.EEXIST, "it is a device or a pipe, which a file would replace", str(path))
    if kind is not None and found.st_size and not may_overwrite() and not kind.recognizes(path):
        reason = f"what is there is not {kind.name} and would be lost; choose another name, or add --overwrite"
        raise FileExistsError(errno.EEXIST, reason, str(path))


def _holding(*marks: str, starts: tuple[bytes, ...] = (b"",)) -> Callable[[Path], bool]:
    """Return whether a file starts in one of these ways and holds all these marks."""

    def is_one(path: Path) -> bool:
        content = path.read_bytes()
        return content.startswith(starts) and all(mark.encode() in content for mark in marks)

    return is_one


MARK = "Written by robustprune"
"""What pictures and tables say of themselves."""

DEMO_MARK = ".robustprune-demo"
"""An empty file in a folder whose networks are those of a demo, and may be replaced by the next."""

TICKET = FileKind("a ticket", _holding("robustprune-ticket", starts=(b"PK",)))  # torch compresses nothing
CHECKPOINT = FileKind("a checkpoint of training", _holding("robustprune-checkpoint", starts=(b"PK",)))
RECORD = FileKind("a record", _holding('"schema":', '"model":', '"samples_sha256":', starts=(b"{",)))
OUTCOMES = FileKind(
    "a file of outcomes per sample", _holding("index.npy", "label.npy", "clean_prediction.npy", starts=(b"PK",))
)
ADVERSARIAL = FileKind(
    "a file of adversarial images", _holding("adversarial.npy", "perturbation_norms.npy", starts=(b"PK",))
)
EXPORT = FileKind("an exported network", _holding("ticket_sha256"))
PAGE = FileKind("a report", _holding('name="generator" content="robustprune', starts=(b"<!",)))
TABLES = FileKind("a file of tables", _holding(MARK, starts=(b"<!-- ", b"% ")))
PICTURE = FileKind("a picture drawn here", _holding(MARK, starts=(b"\x89PNG", b"\xff\xd8", b"RIFF", b"%PDF", b"<svg")))
TICKET_TABLE = FileKind("a table of tickets", _holding("robustprune-table", starts=(b"PAR1",)))
SWEEP_PLAN = FileKind("the plan of a sweep", _holding('"runs":', '"stages":', '"comparisons":', starts=(b"{",)))
