"""SIGKILL at random moments: the resumed run ends in the weights of one that was never disturbed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import TINY

EPOCHS = 12
KILLS = 10


def command(out: Path, *more: str) -> list[str]:
    options = ["--dataset", "digits", "--epochs", str(EPOCHS), "--threads", "1", "--seed", "3", "--no-energy", "--json"]
    return [sys.executable, "-m", "robustprune", "train", *TINY, *options, "--out", str(out), *more]


def run(out: Path, *more: str) -> dict[str, object]:
    done = subprocess.run(command(out, *more), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_killed_and_resumed_ends_in_the_same_weights(tmp_path: Path) -> None:
    start = time.perf_counter()
    expected = run(tmp_path / "undisturbed.pt")["sha256"]
    duration = time.perf_counter() - start
    chooser = random.Random(20230130)
    # Spread over the whole life of the process: start-up, first steps, checkpoints, the last write.
    moments = [duration * (kill + chooser.random()) / KILLS for kill in range(KILLS)]
    interrupted = 0
    for kill, moment in enumerate(moments):
        folder = tmp_path / f"kill{kill}"
        folder.mkdir()
        out = folder / "ticket.pt"
        process = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            interrupted += 1
        resumed = run(out, "--resume")
        assert resumed["sha256"] == expected, f"killed after {moment:.2f} s"
        assert len(resumed["history"]) == EPOCHS
        assert [path.name for path in folder.iterdir()] == ["ticket.pt"]
    # Those that were to be killed late are done by then where the machine has become faster since.
    assert interrupted >= KILLS // 2
