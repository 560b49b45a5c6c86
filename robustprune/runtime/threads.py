"""Processor threads: how many a process may use, and how they wait for each other. Loads no torch.

OpenMP's threads spin while they wait for the others at the end of each layer. Alone on a machine that is the fastest
way. Beside other work the one that is waited for may not run at all, because those that spin for it hold its processor:
a training with two threads then takes several times as long (docs/measurements.md).
"""

from __future__ import annotations

import math
import os
import sys
import warnings
from pathlib import Path

from robustprune.errors import RobustPruneWarning
from robustprune.runtime.control_groups import control_groups, read

QUIET = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}
"""What makes waiting threads sleep soon: in GNU's OpenMP, which torch brings on Linux, and in LLVM's and Intel's, which
it brings on macOS and Windows.

GNU's spins 300,000 times by default and 0 times under OMP_WAIT_POLICY=passive (libgomp's manual, GOMP_SPINCOUNT); a
thousand cost little on a free machine (docs/measurements.md). LLVM's and Intel's wait for 200 ms by default; whole
milliseconds are the unit that all of their releases understand."""


def quiet_threads() -> None:
    """Let threads that wait for each other sleep soon, so that torch is not slow beside other work on its processors.

    OpenMP reads how it is to wait from the environment when torch is loaded: call this before ``import torch``, which
    ``import robustprune`` does not do. What the environment says already (``OMP_WAIT_POLICY``, ``GOMP_SPINCOUNT``,
    ``KMP_BLOCKTIME``) is left as it is. Processes that are started later inherit it. The command line does this by
    itself.

    Warns:
        RobustPruneWarning: Torch is loaded: it is too late for this process, and only those it starts will be quiet.
    """
    if is_wait_chosen():
        return
    os.environ.update(QUIET)
    if "torch" in sys.modules:
        settings = " ".join(f"{name}={value}" for name, value in QUIET.items())
        warnings.warn(
            "torch is loaded, and its threads go on waiting as they do: call quiet_threads() before torch is imported, "
            f"start Python with {settings}, or call torch.set_num_threads(1), as one thread waits for none",
            RobustPruneWarning,
            stacklevel=2,
        )


def is_wait_chosen() -> bool:
    """Return whether the environment says how threads wait: by a user, or by :func:`quiet_threads`."""
    return any(os.environ.get(name) for name in ("OMP_WAIT_POLICY", *QUIET))


def processors() -> int:
    """Return how many processors this process may keep busy: those it may run on, and no more than its quota.

    Of a quota of 1.5 processors two threads make more than one.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = processor_quota()
    return there if quota is None else max(1, min(there, math.ceil(quota)))


def processor_quota(root: Path = Path("/")) -> float | None:
    """Return how many processors' time Linux's control groups leave this process, or None where they set no limit.

    The tightest limit of a group and those above it counts.
    """
    return min((limit for folder in control_groups("cpu", root) for limit in _limit(folder)), default=None)


def _limit(folder: Path) -> list[float]:
    """Return the limit that a control group sets itself, if it sets one."""
    words = read(folder / "cpu.max").split()  # of version 2
    quota, period = words or (read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    # Without a limit version 2 says "max" and version 1 -1, and the uppermost group has no such files.
    return [int(quota) / int(period)] if (quota + period).isdecimal() and int(quota) > 0 else []


def limit_threads(threads: int | None) -> None:
    """Compute with so many threads from now on.

    None leaves torch its choice, and what OMP_NUM_THREADS or MKL_NUM_THREADS say; but of a machine of which this
    process may use a part only, it takes no more threads than that part has processors.
    """
    import torch

    if threads is None:
        chosen = any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))
        threads = torch.get_num_threads() if chosen else min(torch.get_num_threads(), processors())
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)
