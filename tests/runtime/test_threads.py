"""Threads that wait quietly, and as many of them as there are processors for this process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from robustprune.errors import RobustPruneWarning
from robustprune.runtime import threads
from robustprune.runtime.threads import QUIET, limit_threads, processor_quota, processors, quiet_threads

CHOICES = ("OMP_WAIT_POLICY", *QUIET)
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def python(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, in whose environment nobody has chosen anything but ``variables``."""
    own = {name: value for name, value in os.environ.items() if name not in (*CHOICES, *THREADS)}
    return subprocess.run([sys.executable, "-c", script], env=own | variables, capture_output=True, text=True)


@pytest.fixture
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*CHOICES, *THREADS):
        monkeypatch.setenv(name, "")  # so that it is restored, whatever sets it
        monkeypatch.delenv(name)


def seen_by_openmp(shown: str) -> dict[str, str]:
    """Return what GNU's OpenMP says that it found in its environment, as OMP_DISPLAY_ENV makes it do."""
    pairs = (line.partition("=") for line in shown.splitlines() if " = " in line)
    return {name.split()[-1]: value.strip(" '") for name, _, value in pairs}


@pytest.fixture(scope="module")
def spins_by_default() -> str:
    seen = seen_by_openmp(python("import torch", OMP_DISPLAY_ENV="verbose").stderr)
    if "GOMP_SPINCOUNT" not in seen:
        pytest.skip("torch comes with another OpenMP here")
    return seen["GOMP_SPINCOUNT"]


QUIETLY = "import robustprune as rp; rp.quiet_threads(); import torch"
COMMAND = """
import sys
from robustprune.cli import main
sys.argv = "robustprune prune --model none --blocks 1 --out ticket.pt".split()
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("script", [QUIETLY, COMMAND], ids=["python", "command"])
def test_openmp_sees_what_is_set_before_torch_is_loaded(script: str, spins_by_default: str) -> None:
    seen = seen_by_openmp(python(script, OMP_DISPLAY_ENV="verbose").stderr)
    assert seen["GOMP_SPINCOUNT"] == QUIET["GOMP_SPINCOUNT"] != spins_by_default


@pytest.mark.usefixtures("nothing_chosen")
def test_a_process_with_torch_says_that_it_is_too_late_and_its_children_are_quiet() -> None:
    with pytest.warns(RobustPruneWarning, match="before torch is imported"):
        quiet_threads()
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(os.environ['GOMP_SPINCOUNT'])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert child.stdout.strip() == QUIET["GOMP_SPINCOUNT"]
    quiet_threads()  # a second call has nothing to say: warnings are errors here


@pytest.mark.usefixtures("nothing_chosen")
@pytest.mark.parametrize("name", CHOICES)
def test_what_the_user_has_chosen_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    before = dict(os.environ)
    quiet_threads()
    assert dict(os.environ) == before


def test_nothing_heavy_is_loaded_to_be_quiet() -> None:
    script = "import sys, robustprune as rp; rp.quiet_threads(); print('torch' in sys.modules, 'numpy' in sys.modules)"
    assert python(script).stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/job/step\n", {"job/step/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/job/step\n", {"job/step/cpu.max": "max 100000\n"}, None),
        ("0::/job/step\n", {"job/cpu.max": "200000 100000\n", "job/step/cpu.max": "800000 100000\n"}, 2.0),
        ("0::/job/step\n", {"job/cpu.max": "800000 100000\n", "job/step/cpu.max": "max 100000\n"}, 8.0),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5),
        # A container that sees its own group as the root, under the name that it has outside.
        ("0::/docker/1f\n", {"cpu.max": "300000 100000\n"}, 3.0),
        (
            "4:cpu,cpuacct:/job\n0::/\n",
            {"cpu,cpuacct/job/cpu.cfs_quota_us": "400000\n", "cpu,cpuacct/job/cpu.cfs_period_us": "200000\n"},
            2.0,
        ),
        (
            "4:cpu,cpuacct:/job\n",
            {"cpu,cpuacct/job/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"},
            None,
        ),
        (
            "3:cpuset:/job\n1:cpu:/docker/1f\n",
            {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            1.0,
        ),
        ("no group\n", {}, None),
    ],
)
def test_the_tightest_limit_of_control_groups_counts(
    tmp_path: Path, membership: str, files: dict[str, str], expected: float | None
) -> None:
    for name, content in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(membership)
    assert processor_quota(tmp_path) == expected


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert processor_quota(tmp_path) is None


@pytest.mark.parametrize(("quota", "most"), [(None, 10**6), (0.5, 1), (1.0, 1), (1.5, 2), (10.0**6, 10**6)])
def test_processors_are_those_of_the_affinity_within_the_quota(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, most: int
) -> None:
    monkeypatch.setattr(threads, "processor_quota", lambda: quota)
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert there is not None
    assert processors() == min(there, most)


@pytest.mark.usefixtures("nothing_chosen")
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_a_process_that_is_bound_to_one_processor_computes_with_one_thread() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        torch.set_num_threads(2)
        limit_threads(None)
        assert (processors(), torch.get_num_threads()) == (1, 1)
    finally:
        os.sched_setaffinity(0, before)
        torch.set_num_threads(1)


def test_the_number_of_threads_is_the_users_then_the_environments_then_that_of_the_processors(
    monkeypatch: pytest.MonkeyPatch, nothing_chosen: None
) -> None:
    monkeypatch.setattr(threads, "processors", lambda: 2)
    try:
        torch.set_num_threads(5)
        limit_threads(None)
        assert torch.get_num_threads() == 2
        limit_threads(3)
        assert torch.get_num_threads() == 3
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        limit_threads(None)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)
