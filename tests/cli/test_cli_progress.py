"""What takes long draws a bar with an estimate on a terminal, and writes lines where stderr is none."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from threading import Thread

import pytest
from query_folder import fill
from support import TINY, Run
from synthetic_records import make_record

from robustprune.cli import terminal
from robustprune.runtime import progress

FEW = ("--train-limit", "40", "--no-energy", "--batch-size", "20")
EVALUATE = ("evaluate", *TINY, "--limit", "10", "--out", "record.json")
COMMANDS = {
    "scoring by snip": ("prune", *TINY, "--criterion", "snip", "--blocks", "1", "--out", "ticket.pt"),
    "training": ("train", *TINY, *FEW, "--epochs", "2", "--out", "trained.pt"),
    "pgd": (*EVALUATE, "--attack", "pgd", "--steps", "2"),
    "photo-patches": (*EVALUATE, "--ood", "photo-patches", "--detector", "energy"),
    "corruptions": ("corrupt", "--dataset", "digits", "--limit", "10", "--corruption", "brightness", "--out", "made"),
    "export to torch-export": ("export", *TINY, "--format", "torch-export", "--out", "network.pt2"),
    "comparing": ("compare", "dense=dense.json", "layer=layer.json"),
    "cost": ("cost", *TINY),
    "reading records": ("query", "runs"),
    "dense": ("lottery", *TINY, *FEW, "--epochs", "1", "--criterion", "random", "--out", "lottery"),
}
SLOW = {"dense", "photo-patches", "export to torch-export"}
each_command = pytest.mark.parametrize(
    ("label", "command"),
    [pytest.param(*each, marks=[pytest.mark.slow] * (each[0] in SLOW), id=each[1][0]) for each in COMMANDS.items()],
)


@pytest.fixture(autouse=True)
def records(run: Run) -> None:
    for kind in ("dense", "layer"):
        make_record(kind=kind).save(f"{kind}.json")
    fill(Path("runs"), 2)


@each_command
def test_lines_elsewhere(label: str, command: tuple[str, ...], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_FIRST_LINE", "_LEAST_PAUSE", "_PAUSE_SHARE"):
        monkeypatch.setattr(progress, name, 0)
    found = run(*command)
    assert found.code == 0, found.err
    assert re.search(rf"^{label}.*: \d+ %", found.err, re.MULTILINE), found.err
    assert "\x1b" not in found.err


@each_command
@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_a_bar_on_a_terminal(label: str, command: tuple[str, ...], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import pty

    controller, user = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    terminal.stderr.cache_clear()
    shown: list[bytes] = []
    reader = Thread(target=_read, args=(controller, shown))
    reader.start()
    with monkeypatch.context() as patch, os.fdopen(user, "w") as stderr:
        patch.setattr(sys, "stderr", stderr)
        found = run(*command)
    reader.join()
    os.close(controller)
    terminal.stderr.cache_clear()
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(shown).decode())
    assert found.code == 0, drawn
    # The estimate is a row of dashes before anything is done, and none is left at the end.
    assert re.search(rf"{label}.* ━+ +\d+% (\d:\d\d:\d\d|-:--:--)", drawn), drawn


def _read(controller: int, shown: list[bytes]) -> None:
    """Read what is written to a pseudo-terminal until it is closed, so that it never fills."""
    try:
        while written := os.read(controller, 65536):
            shown.append(written)
    except OSError:  # Linux's end of file
        return
