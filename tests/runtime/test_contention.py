"""When a process is said to be short of processors: by Linux's own counts, and beside work that is really there."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

import robustprune as rp
from robustprune.runtime import contention
from robustprune.runtime.contention import Shortage, describe, now_and_then, read_counts

SECOND = 10**9  # nanoseconds

is_counted = pytest.mark.skipif(
    not any(Path("/proc/self/task").glob("*/schedstat")), reason="the system does not count how long threads wait"
)


def said_of(
    monkeypatch: pytest.MonkeyPatch, *threads: tuple[float, float], there: int = 2, seconds: float = 10
) -> str | None:
    """Return what is said of threads that ran and waited for so many seconds."""
    monkeypatch.setattr(contention, "processors", lambda: there)
    before = {str(name): (7 * SECOND, 3 * SECOND) for name in range(len(threads))}
    after = {
        str(name): (int((7 + ran) * SECOND), int((3 + waited) * SECOND)) for name, (ran, waited) in enumerate(threads)
    }
    return describe(before, after, seconds)


def test_a_process_that_gets_less_than_half_of_what_it_asks_for_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    found = said_of(monkeypatch, (2, 8), (2, 8))
    assert found == "gets 0.4 of 2 processors: other work on this machine makes times and energy unreliable"
    assert (
        said_of(monkeypatch, (2, 8))
        == "gets 0.2 of 1 processors: other work on this machine makes times and energy unreliable"
    )


@pytest.mark.parametrize(
    "threads",
    [
        [(10.0, 0.0), (10.0, 0.0)],  # all it can get
        [(10.0, 0.0)],  # one thread by nature, of two processors
        [(1.0, 0.05)],  # mostly waiting for a disk
        [(0.01, 0.1)],  # next to nothing to do
        [(6.0, 4.0), (6.0, 4.0)],  # more than half
        [(5.0, 5.0)] * 4,  # more threads than processors, which wait for each other alone
    ],
)
def test_who_waits_for_other_things_than_other_work_is_not_short(
    monkeypatch: pytest.MonkeyPatch, threads: list[tuple[float, float]]
) -> None:
    assert said_of(monkeypatch, *threads) is None


def test_threads_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contention, "processors", lambda: 1)
    gone, stays, new = (90 * SECOND, 0), (10 * SECOND, 5 * SECOND), (SECOND, 8 * SECOND)
    found = describe({"1": gone, "2": stays}, {"2": stays, "3": new}, 10.0)
    assert found == "gets 0.1 of 0.9 processors: other work on this machine makes times and energy unreliable"


def write_counts(folder: Path, ran: float, waited: float) -> None:
    (folder / "17").mkdir(exist_ok=True)
    (folder / "17" / "schedstat").write_text(f"{int(ran * SECOND)} {int(waited * SECOND)} 12\n")


def test_it_looks_at_the_last_seconds_and_takes_back_what_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contention, "processors", lambda: 1)
    now = [0.0]
    write_counts(tmp_path, 100, 0)
    shortage = Shortage(tmp_path, clock=lambda: now[0])
    write_counts(tmp_path, 101, 3)
    now[0] = 1.0
    assert shortage.look() is None  # too early to tell
    now[0] = 4.0
    assert shortage.look() == "gets 0.25 of 1 processors: other work on this machine makes times and energy unreliable"
    write_counts(tmp_path, 111, 3)
    now[0] = 6.0
    assert shortage.look() is not None
    now[0] = 14.0
    assert shortage.look() is None


def test_where_nothing_is_counted_nothing_is_said(tmp_path: Path) -> None:
    now = [0.0]
    shortage = Shortage(tmp_path / "none", clock=lambda: now[0])
    now[0] = 100.0
    assert shortage.look() is None


def test_a_warning_comes_at_most_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now, said = [0.0], []
    monkeypatch.setattr(contention.time, "monotonic", lambda: now[0])
    speak = now_and_then(lambda sentence: said.append((now[0], sentence)))
    for now[0] in range(0, 200, 10):
        speak("short")
    assert said == [(0, "short"), (60, "short"), (120, "short"), (180, "short")]


@contextmanager
def others(count: int) -> Iterator[None]:
    """Keep this process's first processor busy by so many others."""
    bind = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    busy = [subprocess.Popen([sys.executable, "-c", f"{bind}while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for each in busy:
            each.kill()
            each.wait()


WATCHED = """
import os, time
from pathlib import Path
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from robustprune.runtime.contention import Shortage
shortage, start = Shortage(), time.monotonic()
while time.monotonic() - start < 4:
    if %s: sum(range(1000))
    else: time.sleep(1)
print(shortage.look())
"""


def watched(is_working: bool) -> str:
    done = subprocess.run([sys.executable, "-c", WATCHED % is_working], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.slow
@is_counted
def test_beside_four_others_on_its_processor_a_process_that_works_is_short_and_one_that_sleeps_is_not() -> None:
    with others(4):
        time.sleep(0.5)
        assert "processors: other work on this machine makes times and energy unreliable" in watched(is_working=True)
        assert watched(is_working=False) == "None"


@is_counted
def test_the_counts_are_those_of_the_kernel() -> None:
    before, start, ran = read_counts(Path("/proc/self/task")), time.monotonic(), time.thread_time()
    while time.monotonic() - start < 0.3:
        pass
    ran = time.thread_time() - ran
    after = read_counts(Path("/proc/self/task"))
    own = str(os.getpid())  # the main thread's number is the process's
    assert (after[own][0] - before[own][0]) / SECOND == pytest.approx(ran, abs=0.05)


def test_a_progress_bar_says_that_processors_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    class Short(Shortage):
        def look(self) -> str:
            return "gets 0.4 of 2 processors: other work on this machine makes times and energy unreliable"

    monkeypatch.setattr(contention, "Shortage", Short)
    for is_terminal in (True, False):
        shown = io.StringIO()
        with rp.progress_bar(Console(file=shown, force_terminal=is_terminal)) as bar:
            bar("training", 1, 2)
            bar("training", 2, 2)
        assert shown.getvalue().count("This process gets 0.4 of 2 processors") == 1
