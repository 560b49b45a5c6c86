"""The kinds of file that are written here, and how each is told from all others, so that none replaces another's.

A file is looked at, never trusted by its name. What is no file of its kind is somebody's work: it is replaced only
within :func:`overwriting`.
"""

from __future__ import annotations

import errno
import json
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

_OVERWRITES: ContextVar[bool] = ContextVar("overwrites", default=False)


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: With its article, for messages.
        is_one: Whether a file is one; it may raise what reading raises.
    """

    name: str
    is_one: Callable[[Path], bool]

    def recognizes(self, path: Path) -> bool:
        """Return whether a file is of this kind; not where it cannot be read."""
        try:
            return self.is_one(path)
        except Exception:  # a damaged file makes zipfile, zlib, json, csv … raise dozens of types
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


def check_replaceable(path: Path, kind: Kind | None) -> None:
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


_SEAL = b"robustprune:sha256:"
_FORMATS = (b"robustprune-ticket", b"robustprune-checkpoint")


def _sealed(form: bytes) -> Callable[[Path], bool]:
    """Return whether a file is one of :mod:`robustprune.runtime.sealed` of that format, if a damaged one."""

    def is_one(path: Path) -> bool:
        content = path.read_bytes()  # torch does not compress it
        # Where the damage is at its start, or at the name of its format, its seal tells.
        is_of_another = any(other in content for other in _FORMATS if other != form)
        return (content.startswith(b"PK") and form in content) or (_SEAL in content[-200:] and not is_of_another)

    return is_one


def _archive(*names: str) -> Callable[[Path], bool]:
    """Return whether a file is an npz archive with these arrays, if a damaged one."""

    def is_one(path: Path) -> bool:
        content = path.read_bytes()
        return content.startswith(b"PK") and all(f"{name}.npy".encode() in content for name in names)

    return is_one


def _mapping(*keys: str) -> Callable[[Path], bool]:
    """Return whether a file is JSON with these keys; one that was cut off has the first of them at its start."""

    def is_one(path: Path) -> bool:
        content = path.read_bytes()
        try:
            found = json.loads(content)
        except ValueError:
            return content.startswith(b"{") and f'"{keys[0]}"'.encode() in content[:40]
        return isinstance(found, dict) and set(keys) <= found.keys()

    return is_one


def _marked(mark: bytes, *starts: bytes) -> Callable[[Path], bool]:
    """Return whether a file starts in one of these ways and holds a mark."""

    def is_one(path: Path) -> bool:
        content = path.read_bytes()
        return content.startswith(starts) and mark in content

    return is_one


MARK = "Written by robustprune"
"""What pictures and tables say of themselves."""

DEMO_MARK = ".robustprune-demo"
"""An empty file in a folder whose networks are those of a demo, and may be replaced by the next."""

TICKET = Kind("a ticket", _sealed(b"robustprune-ticket"))
CHECKPOINT = Kind("a checkpoint of training", _sealed(b"robustprune-checkpoint"))
RECORD = Kind("a record", _mapping("schema", "model", "samples_sha256"))
OUTCOMES = Kind("a file of outcomes per sample", _archive("index", "label", "clean_prediction"))
ADVERSARIAL = Kind("a file of adversarial images", _archive("adversarial", "perturbation_norms"))
EXPORT = Kind("an exported network", _marked(b"ticket_sha256", b""))
PAGE = Kind("a report", _marked(b'name="generator" content="robustprune', b"<!"))
TABLES = Kind("a file of tables", _marked(MARK.encode(), b"<!-- ", b"% "))
PICTURE = Kind("a picture drawn here", _marked(MARK.encode(), b"\x89PNG", b"\xff\xd8", b"RIFF", b"%PDF", b"<svg"))
SWEEP_PLAN = Kind("the plan of a sweep", _mapping("runs", "stages", "comparisons"))
