"""The command line in two processes, as torchrun starts them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import robustprune

_TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start ``torchrun --nproc-per-node 2 ARGUMENTS`` in a folder."""
    package = str(Path(robustprune.__file__).parents[1])
    paths = [package, os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*_TORCHRUN, *arguments], cwd=folder, env=environment, **pipes)


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr."""
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def robustprune_in_two(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of ``robustprune ARGUMENTS`` in two processes."""
    return run(folder, "-m", "robustprune", *arguments)


def said(err: str) -> list[str]:
    """Return the errors that the command line put in words; torchrun adds a report of its own."""
    return re.findall(r"^Error: .*", err, re.MULTILINE)
