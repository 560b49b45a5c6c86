"""This process: its place among those that torchrun started, whether it speaks, what of it is changed for a while.

Loads no torch until something fails.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from robustprune.errors import RobustPruneWarning


@dataclass(frozen=True)
class Launch:
    """The place of this process among those that torchrun started; alone, if it was started by itself."""

    rank: int = 0  # over all machines
    count: int = 1
    local_rank: int = 0  # on this machine


def read_launch() -> Launch:
    """Return this process's place, as torchrun left it in the environment."""
    # Schedulers set RANK and WORLD_SIZE for purposes of their own.
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Launch()
    rank, count, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    return Launch(rank, count, local_rank)


def silence_others() -> None:
    """Let this process print nothing unless it is the first of several."""
    if read_launch().rank > 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (for as long as the process lives)


def take_the_floor() -> None:
    """Let this process print on stderr if it is the first of several to fail, and nothing more if it is not.

    A process whose partner has failed fails, too, and what it would say is of no interest.
    """
    launch = read_launch()
    if launch.count == 1:
        return
    if _is_first_to_fail(launch):
        sys.stderr = sys.__stderr__
        return
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    # torchrun ends all when one has ended: the first is to finish its sentence.
    time.sleep(1)


def _is_first_to_fail(launch: Launch) -> bool:
    # Kept by torchrun itself, so that it is there whichever process has gone.
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return launch.rank == 0
    from datetime import timedelta

    from torch import distributed

    try:
        store = distributed.TCPStore(  # type: ignore[attr-defined]
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=timedelta(seconds=10)
        )
        failed: int = store.add(f"robustprune/failed/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", 1)
        return failed == 1
    except (RuntimeError, OSError, ValueError, KeyError):
        return launch.rank == 0


def once_each(say: Callable[[str], None]) -> Callable[..., None]:
    """Return a ``warnings.showwarning`` that says our own as a line each, once, and writes all others as always.

    Python by itself counts anew whenever somebody has changed the filters for a while, and some import always does.
    """
    said: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *place: Any, **_options: Any) -> None:
        line = f"Warning: {message}"
        if not issubclass(category, RobustPruneWarning):
            sys.stderr.write(warnings.formatwarning(message, category, *place[:2]))
        elif line not in said:
            said.add(line)
            say(line)

    return show


@contextmanager
def environment_variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment, for packages and processes that listen to nothing else."""
    before = {name: os.environ[name] for name in values if name in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)
        os.environ.update(before)


@contextmanager
def logging_from(level: int, *names: str) -> Iterator[None]:
    """Let loggers of these names say nothing below a level."""
    import logging

    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, own in zip(loggers, before, strict=True):
            logger.setLevel(own)
