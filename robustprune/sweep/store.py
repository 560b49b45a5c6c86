"""A sweep's folder.

::

    sweeps/NAME.json                 the runs and stages of each sweep that was made here
    stages/KIND-HASH/stage.json      a finished stage: what went in, when, how long; beside it what came out
    work/KIND-HASH/                  one that is being worked on, or was interrupted
    locks/KIND-HASH.lock             who works on what; empty, and left there
    failures/KIND-HASH.json          what failed, with its inputs; its traceback in a .txt beside it
    trained/HASH                     the stage that trains this network in this way: others like it take it over

What lies in ``stages`` is whole: it got there by one rename, after everything in it was flushed to the disk.

A lock is the operating system's, on an open file: it vanishes with the process that holds it, however that ends, so
there are no stale locks to recover from. Where a network's file system passes none on, two machines may do the same
work, which is wasted but harmless: the second one's is thrown away.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from robustprune.errors import RecordWarning, SweepError
from robustprune.runtime.file_kinds import SWEEP_PLAN
from robustprune.runtime.files import printable, write_atomically
from robustprune.sweep.graph import Stage, SweepPlan, look_at


class Store:
    """The files of a sweep."""

    def __init__(self, folder: str | Path) -> None:
        """Name a folder, which needs not exist yet."""
        self.folder = Path(folder)

    def stage(self, address: str) -> Path:
        """Return the folder of a finished stage."""
        return self.folder / "stages" / address

    def work(self, address: str) -> Path:
        """Return the folder of a stage that is being worked on."""
        return self.folder / "work" / address

    def lock(self, address: str) -> Path:
        """Return the file to lock while working on a stage."""
        return self.folder / "locks" / f"{address}.lock"

    def record(self, address: str) -> Path:
        """Return the file of the record that an evaluation leaves."""
        return self.stage(address) / "record.json"

    def is_done(self, address: str) -> bool:
        """Return whether a stage is finished."""
        return (self.stage(address) / "stage.json").is_file()

    def done(self) -> set[str]:
        """Return the addresses of all finished stages."""
        return {path.name for path in self.folder.glob("stages/*")}

    def describe(self, address: str) -> dict[str, Any]:
        """Return what a finished stage says of itself."""
        found: dict[str, Any] = json.loads((self.stage(address) / "stage.json").read_text())
        return found

    def publish(self, address: str, stage: Stage, more: Mapping[str, Any]) -> None:
        """Finish a stage: what lies in its folder of work becomes its outcome, in one rename."""
        work, place = self.work(address), self.stage(address)
        content = json.dumps({**asdict(stage), **more}, indent=2, allow_nan=False)
        write_atomically(work / "stage.json", f"{content}\n".encode())
        _flush_folder(work)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(work, place)
        except OSError:
            # Where locks do not hold between machines, another one may have been faster with the same.
            if not self.is_done(address):
                raise
            shutil.rmtree(work, ignore_errors=True)
        _flush_folder(place.parent)
        self.forget_failure(address)

    def trained_alike(self, alike: str, address: str) -> str | None:
        """Return the finished stage that trained what hashes so; if there is none, ``address`` will have."""
        path = self.folder / "trained" / alike
        with suppress(FileNotFoundError):
            known = path.read_text()
            if known != address and self.is_done(known):
                return known
        write_atomically(path, address.encode())
        return None

    def note_shortage(self, address: str, sentence: str | None) -> None:
        """Write down that whoever works on a stage is short of processors, or with None that it is not."""
        if sentence is None:
            self._shortage(address).unlink(missing_ok=True)
        else:
            write_atomically(self._shortage(address), sentence.encode())

    def shortage(self, address: str) -> str | None:
        """Return what whoever works on a stage says of the processors that it is short of."""
        with suppress(OSError):
            return self._shortage(address).read_text()
        return None

    def _shortage(self, address: str) -> Path:
        return self.work(address) / "shortage.txt"

    def failure(self, address: str) -> Path:
        """Return the file that says how a stage failed."""
        return self.folder / "failures" / f"{address}.json"

    def failed(self) -> set[str]:
        """Return the addresses of all stages that failed."""
        return {path.stem for path in self.folder.glob("failures/*.json")}

    def record_failure(self, stage: Stage, error: str, traceback: str) -> Path:
        """Write down how a stage failed; return the file of its traceback."""
        path = self.failure(stage.address)
        story = path.with_suffix(".txt")
        write_atomically(story, printable(traceback).encode())
        content = {**asdict(stage), "error": error, "traceback": story.name}
        write_atomically(path, json.dumps(content, indent=2).encode())
        return story

    def forget_failure(self, address: str) -> None:
        """Let a failed stage be tried again."""
        self.failure(address).unlink(missing_ok=True)
        self.failure(address).with_suffix(".txt").unlink(missing_ok=True)

    def plan_file(self, name: str) -> Path:
        """Return the file of the plan of a sweep called ``name``."""
        return self.folder / "sweeps" / f"{name}.json"

    def known_plan(self, name: str, key: str) -> SweepPlan | None:
        """Return the plan of a sweep that was made before, if it still holds."""
        try:
            plan = SweepPlan.from_json(self.plan_file(name).read_bytes())
        except (OSError, ValueError):
            return None
        return plan if plan.key == key and all(look_at(path) == seen for path, seen in plan.watched.items()) else None

    def keep_plan(self, name: str, plan: SweepPlan) -> None:
        """Write a plan down, unless it is there."""
        path, content = self.plan_file(name), plan.to_json().encode()
        try:
            if not path.is_file() or path.read_bytes() != content:
                write_atomically(path, content, SWEEP_PLAN)
        except OSError as error:
            raise SweepError(f"the plan cannot be written to {path}: {error.strerror}") from error

    def plans(self) -> dict[str, SweepPlan]:
        """Return the plans of the sweeps made here, by name; one that cannot be read is named and left out."""
        found = {}
        for path in sorted(self.folder.glob("sweeps/*.json")):
            try:
                found[path.stem] = SweepPlan.from_json(path.read_bytes())
            except (OSError, ValueError) as error:
                warnings.warn(f"left out: {path} is no plan of this version ({error})", RecordWarning, stacklevel=2)
        return found


def _flush_folder(folder: Path) -> None:
    """See to it that names in a folder survive a loss of power, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Hold the lock at ``path``; yield False, at once, where another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A new object each time, and no thread's own: the same file may be asked for again from elsewhere.
    lock = FileLock(path, thread_local=False)
    try:
        with suppress(Timeout):
            lock.acquire(blocking=False)
        yield lock.is_locked
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Return whether some process holds the lock; False where one may not even try to take it."""
    if not os.access(path, os.W_OK):
        return False
    with claim(path) as free:
        return not free
