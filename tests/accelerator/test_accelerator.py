"""The suite on the pretend accelerator, each file in a process of its own: what `pretend` does to torch stays there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SUITE = sorted((Path(__file__).parent / "suite").glob("on_*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", SUITE, ids=[path.stem for path in SUITE])
def test_suite(path: Path) -> None:
    # Files of these names are collected only where they are named.
    options = ("-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:xdist")
    done = subprocess.run([sys.executable, "-m", "pytest", *options, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
