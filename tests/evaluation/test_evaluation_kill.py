"""SIGKILL at any moment of an evaluation: the next one goes on there, and ends as one that was never disturbed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustprune.attacks.engine.resume import FORMAT
from robustprune.data import ImageData
from robustprune.models import build_model
from robustprune.records import Record, load_record
from robustprune.tickets.ticket import Ticket
from robustprune.training import train

MOMENTS = (0.05, 0.3, 0.6, 0.85, 0.97)  # shares of the images that an evaluation shows to its network
# Writes how many images it is shown, however it comes to be shown them.
NETWORK = """
import os
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(
            nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(72, num_classes)
        )

    def forward(self, images):
        if "SHOWN" in os.environ:
            with open(os.environ["SHOWN"], "a") as stream:
                stream.write(f"{len(images)}\\n")
        return super().forward(images)
"""
# Votes are written after every image, for a quick processor counts them all in two seconds.
PROGRAM = """
from robustprune.cli import main
from robustprune.inference import saved_votes
saved_votes.SECONDS_BETWEEN = 0
main()
"""
LIMIT = 40


@pytest.fixture
def folder(digits: ImageData, tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NETWORK)
    ticket = Ticket.from_model(build_model(f"file:{tmp_path / 'net.py'}:Net", digits), digits)
    train(ticket, digits, epochs=4, country=None).save(tmp_path / "ticket.pt")
    return tmp_path


ATTACK = ("--attack", "autoattack", "--steps", "8", "--queries", "100", "--eps", "0.03,0.06")
CERTIFY = ("--certify", "sigma=0.1,n=20000,n0=50")


def start(folder: Path, out: str, shown: str, measure: Sequence[str] = ATTACK) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, "evaluate", "--model", "ticket.pt", "--model-code", "net.py", "--json"]
    command += [*measure, "--threads", "1", "--limit", str(LIMIT), "--out", f"{out}/record.json", "--resume"]
    environment = {**os.environ, "SHOWN": str(folder / shown)}
    (folder / out).mkdir(exist_ok=True)
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> None:
    _, complaints = process.communicate()
    assert process.returncode == 0, complaints


def images_shown(folder: Path, shown: str) -> int:
    path = folder / shown
    return sum(map(int, path.read_text().split())) if path.exists() else 0


def outcome(record: Record) -> list[dict[str, Any]]:
    return [{**entry.model_dump(), "seconds": 0} for entry in record.attacks]


def kill_midway(process: subprocess.Popen[str], folder: Path, shown: str, images: float, delay: float) -> None:
    while images_shown(folder, shown) < images and process.poll() is None:
        time.sleep(0.01)
    time.sleep(delay)
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_killed_and_resumed_breaks_the_same_samples(folder: Path) -> None:
    finish(start(folder, "whole", "shown-whole"))
    whole, needed = load_record(folder / "whole" / "record.json"), images_shown(folder, "shown-whole")
    assert whole.samples is not None
    chooser = random.Random(20230130)
    for moment in MOMENTS:
        out, shown = f"kill{moment}", f"shown{moment}"
        kill_midway(start(folder, out, shown), folder, shown, moment * needed, 0.02 * chooser.random())
        assert not (folder / out / "record.json").exists()
        assert moment * needed <= images_shown(folder, shown) < needed
        for state in (folder / out).glob("record.json.resume/[!.]*"):  # a temporary file begins with a dot
            assert torch.load(state, weights_only=True)["format"] == FORMAT
        finish(start(folder, out, shown))
        resumed = load_record(folder / out / "record.json")
        assert outcome(resumed) == outcome(whole), moment
        assert resumed.samples is not None
        for name, values in whole.samples.items():
            assert np.array_equal(resumed.samples[name], values), name
        assert sorted(path.name for path in (folder / out).iterdir()) == ["record.json", "record.json.samples.npz"]
        # What a second start shows anew: clean images, probes, verdicts; and at most one part of the attack, of which
        # FAB's is the longest: nine classes, eight steps, three looks at each.
        assert images_shown(folder, shown) - needed <= (12 + 9 * (1 + 8 * 3)) * LIMIT, moment


@pytest.mark.slow
def test_killed_and_resumed_certifies_the_same(folder: Path) -> None:
    finish(start(folder, "whole", "shown-whole", CERTIFY))
    whole, needed = load_record(folder / "whole" / "record.json"), images_shown(folder, "shown-whole")
    assert whole.samples is not None
    for moment in (0.2, 0.7):
        out, shown = f"kill{moment}", f"shown{moment}"
        kill_midway(start(folder, out, shown, CERTIFY), folder, shown, moment * needed, 0.0)
        assert not (folder / out / "record.json").exists()
        seen = images_shown(folder, shown)
        assert moment * needed <= seen < needed
        finish(start(folder, out, shown, CERTIFY))
        resumed = load_record(folder / out / "record.json")
        assert resumed.samples is not None
        for name, values in whole.samples.items():
            assert np.array_equal(resumed.samples[name], values), name
        assert sorted(path.name for path in (folder / out).iterdir()) == ["record.json", "record.json.samples.npz"]
        # Some of what the first one was shown is not shown again.
        assert images_shown(folder, shown) - seen < needed
