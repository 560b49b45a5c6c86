"""Thirty random moments: a sweep is killed, a worker of one is, or the disk is full; what comes out is the same.

Stages are made up, so that so many fit into a minute; they go on from their last step, as training does.
`test_sweep_kill.py` does the same with real networks.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from essence import leftovers

from robustprune.sweep import Store

pytestmark = pytest.mark.slow

MOMENTS = 10  # of each kind
NO_ROOM = 28
STAGES = 21  # a dense one, and for each of ten a ticket and its test

Contents = dict[str, bytes]


def start(folder: Path) -> subprocess.Popen[bytes]:
    script = f"from sweep_stages import build_all; build_all({str(folder)!r})"
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, stderr=subprocess.PIPE
    )


def end(process: subprocess.Popen[bytes]) -> int:
    _, said = process.communicate(timeout=120)
    assert b"Traceback" not in said, said.decode()
    return process.returncode


def contents(folder: Path) -> Contents:
    """Return every file of every finished stage, but for those that say when it was made."""
    stages = folder / "stages"
    return {str(path.relative_to(stages)): path.read_bytes() for path in stages.rglob("*.bin")}


def check(folder: Path, wanted: Contents) -> None:
    assert end(start(folder)) == 0
    assert contents(folder) == wanted
    assert leftovers(folder) == []


def check_what_is_there(folder: Path, wanted: Contents) -> None:
    """What is finished is whole, whatever has just happened."""
    there = Store(folder).done()
    assert all(Store(folder).is_done(address) for address in there)
    assert contents(folder) == {name: each for name, each in wanted.items() if name.partition("/")[0] in there}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Contents, float]:
    """Return what comes out of an undisturbed sweep, and how long that takes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    before = time.monotonic()
    assert end(start(folder)) == 0
    found = contents(folder), time.monotonic() - before
    assert len(found[0]) == 2 * STAGES
    return found


def test_sweep_is_killed(undisturbed: tuple[Contents, float], tmp_path: Path) -> None:
    (wanted, seconds), chooser = undisturbed, random.Random(20230130)
    killed, folders = 0, 1
    while killed < MOMENTS:
        process = start(tmp_path / str(folders))
        try:
            process.wait(timeout=chooser.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed += 1
            check_what_is_there(tmp_path / str(folders), wanted)
        else:  # it got through before; a new one
            assert end(process) == 0
            folders += 1
    for number in range(1, folders + 1):
        check(tmp_path / str(number), wanted)


def test_worker_is_killed(undisturbed: tuple[Contents, float], tmp_path: Path) -> None:
    (wanted, seconds), chooser, killed = undisturbed, random.Random(7), 0
    for attempt in range(4 * MOMENTS):
        folder = tmp_path / str(attempt)
        process = start(folder)
        time.sleep(chooser.uniform(0.2, 1) * seconds)
        there = workers(process.pid)
        if there:
            subprocess.run(["kill", "-KILL", chooser.choice(there)], check=False)
            killed += 1
        assert end(process) == 0  # one that is gone is replaced
        check(folder, wanted)
        if killed == MOMENTS:
            return
    raise AssertionError(f"only {killed} workers were there to be killed")


def workers(parent: int) -> list[str]:
    found = subprocess.run(
        ["ps", "-ww", "-o", "pid=", "-o", "args=", "--ppid", str(parent)], capture_output=True, text=True, check=False
    )
    return [line.split()[0] for line in found.stdout.splitlines() if "spawn_main" in line]


def test_disk_is_full(undisturbed: tuple[Contents, float], tmp_path: Path) -> None:
    (wanted, _), chooser = undisturbed, random.Random(3)
    whole = sum(len(each) for each in wanted.values()) // 1024
    for _ in range(MOMENTS):
        with disk_of(tmp_path, chooser.randrange(16, whole)) as (disk, grow):
            assert end(start(disk / "out")) == NO_ROOM
            check_what_is_there(disk / "out", wanted)
            grow()
            check(disk / "out", wanted)


@contextmanager
def disk_of(home: Path, kilobytes: int) -> Iterator[tuple[Path, Callable[[], object]]]:
    """Yield a disk of so many kilobytes, and what gives it more."""
    disk = home / "disk"
    disk.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield disk, lambda: subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)
