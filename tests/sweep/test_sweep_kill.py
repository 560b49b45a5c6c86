"""SIGKILL of a sweep, SIGKILL of its workers, and a full disk: the same records and tickets in the end."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from essence import essence, leftovers

pytestmark = pytest.mark.slow

DOCUMENT: dict[str, Any] = {
    "name": "small",
    "model": "resnet20",
    "model_options": {"width": 4},
    "data": {"train_limit": 300},
    "recipe": {"epochs": 6, "batch_size": 32},
    "country": None,
    "grid": {"pruning.criterion": ["snip", "random"], "pruning.blocks": [1, 2]},
    "include": [{"pruning": {"criterion": "expected_abs", "blocks": 1, "at_init": False, "rewind": 2}}],
    "evaluate": {
        "limit": 80,
        "attacks": {"names": ["pgd"], "epsilons": ["2/255", "8/255"], "steps": 5},
        "corruptions": ["fog", "snow"],
        "ood": {"sets": ["noise"], "detectors": ["msp", "knn"]},
    },
}
KILLS = 10  # of each kind


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "small.yaml"
    path.write_text(yaml.safe_dump(DOCUMENT))
    return path


@pytest.fixture(scope="module")
def undisturbed(file: Path) -> dict[str, Any]:
    out = file.parent / "undisturbed"
    finish(file, out)
    return essence(out)


def command(file: Path, out: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "robustprune",
        "sweep",
        str(file),
        "--out",
        str(out),
        "--workers",
        "2",
        "--json",
        *more,
    ]


def finish(file: Path, out: Path, *more: str) -> None:
    done = subprocess.run(command(file, out, *more), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["finished"] == 6


def start(file: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(file, out, *more), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def moments() -> Iterator[float]:
    """Yield seconds that grow, so that a sweep gets somewhere between two kills however slow the machine is."""
    chooser = random.Random(20230130)
    for kill in range(KILLS):
        yield chooser.uniform(0.5, 6 + kill)


def check(out: Path, undisturbed: dict[str, Any]) -> None:
    assert leftovers(out) == []
    assert essence(out) == undisturbed


def test_killed_sweep_ends_as_one_that_was_not(file: Path, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    out, interrupted = tmp_path / "out", 0
    for seconds in moments():
        process = start(file, out)
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            interrupted += 1
    assert interrupted >= KILLS // 2
    finish(file, out)
    check(out, undisturbed)


def test_sweep_whose_workers_are_killed_ends_as_one_whose_are_not(
    file: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    out, chooser, killed = tmp_path / "out", random.Random(7), 0
    process = start(file, out)
    while killed < KILLS:
        if process.poll() == 0:  # it got through all the same
            break
        if process.poll() is not None:  # a stage, or the plan, was hit three times
            process = start(file, out, "--retry-failed")
        time.sleep(chooser.uniform(0.5, 3))
        children = subprocess.run(
            ["ps", "-ww", "-o", "pid=", "-o", "args=", "--ppid", str(process.pid)],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.splitlines()
        workers = [line.split()[0] for line in children if "spawn_main" in line]
        if workers:
            subprocess.run(["kill", "-KILL", chooser.choice(workers)], check=False)
            killed += 1
    process.wait()
    assert killed >= KILLS // 2
    finish(file, out, "--retry-failed")  # one stage that was hit three times counts as failed
    check(out, undisturbed)


def test_full_disk_loses_nothing(file: Path, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    disk, chooser, full = tmp_path / "disk", random.Random(3), 0
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        size = 64
        for _ in range(KILLS):
            done = subprocess.run(command(file, disk / "out"), capture_output=True, text=True, check=False)
            assert "Traceback" not in done.stderr
            assert "should not happen" not in done.stderr
            if done.returncode == 0:
                break
            assert "No space left" in done.stderr, done.stderr
            full += 1
            size += chooser.randrange(60, 400)
            subprocess.run(["mount", "-o", f"remount,size={size}k", str(disk)], check=True)
        assert full >= KILLS // 2
        subprocess.run(["mount", "-o", "remount,size=256m", str(disk)], check=True)
        finish(file, disk / "out")
        check(disk / "out", undisturbed)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)
