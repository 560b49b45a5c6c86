"""The bar that Python shows on a terminal and in a notebook, and the lines that it prints elsewhere."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console

import robustprune as rp
from robustprune.runtime import progress
from robustprune.runtime.progress import shown_progress
from robustprune.runtime.work import labelled


def told(console: Console) -> None:
    with rp.progress_bar(console) as bar:
        tell = labelled(rp.Work(progress=bar).progress, "epoch [1]")
        assert tell is not None
        for done in range(3):
            tell(done, 2)


def test_a_terminal_shows_the_label_and_a_file_nothing_of_what_is_short() -> None:
    terminal, file = io.StringIO(), io.StringIO()
    told(Console(file=terminal, force_terminal=True))
    assert "epoch [1]" in terminal.getvalue()
    assert "100%" in terminal.getvalue()
    told(Console(file=file, force_terminal=False))
    assert file.getvalue() == ""


def lines_of(
    monkeypatch: pytest.MonkeyPatch, reports: Iterable[tuple[float, str, float, float]]
) -> list[tuple[float, str]]:
    """Return the lines for reports at given seconds, and when they came."""
    clock, file, lines = [0.0], io.StringIO(), []
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with rp.progress_bar(Console(file=file, force_terminal=False)) as bar:
        for clock[0], label, done, total in reports:
            bar(label, done, total)
            lines += [(clock[0], line) for line in file.getvalue().splitlines()]
            file.truncate(file.seek(0))
    return lines


def test_a_file_is_told_at_once_what_takes_long_then_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    found = lines_of(monkeypatch, [(second, "epoch [1]", second, 200) for second in range(201)])
    assert found[:2] == [(2, "epoch [1]: 1 %, 3 min left"), (12, "epoch [1]: 6 %, 3 min left")]
    assert dict(found)[113] == "epoch [1]: 56 %, 87 s left"
    times = [time for time, _ in found]
    pauses = [after - before for before, after in pairwise(times)]
    assert all(10 <= pause <= max(11, 1 + time / 10) for time, pause in zip(times, pauses, strict=False))


def test_a_log_of_days_stays_short(monkeypatch: pytest.MonkeyPatch) -> None:
    days = 7 * 24 * 3600
    found = lines_of(monkeypatch, [(second, "sweep", second, days) for second in range(0, days + 1, 5)])
    assert len(found) < 120
    assert found[-1][0] > 0.9 * days


def test_estimates_are_of_what_was_done_now_and_of_each_thing_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    resumed = [(0, "training", 90, 100), (30, "training", 95, 100)]
    assert lines_of(monkeypatch, resumed) == [(30, "training: 95 %, 30 s left")]
    again = [(0, "pgd", 0, 4), (1, "pgd", 4, 4), (60, "pgd", 0, 4), (80, "pgd", 1, 4), (140, "pgd", 4, 4)]
    assert lines_of(monkeypatch, again)[1:] == [(80, "pgd: 25 %, 60 s left"), (140, "pgd: 100 %")]
    assert lines_of(monkeypatch, [(0, "a", 0, 0), (5, "b", 0, 10)]) == [(5, "b: 0 %")]


def test_a_notebook_shows_it_in_a_widget_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    class Output:
        closed = False

        def __enter__(self) -> None: ...
        def __exit__(self, *exception: object) -> None: ...
        def clear_output(self, wait: bool) -> None: ...
        def close(self) -> None:
            self.closed = True

    modules = {
        "ipywidgets": SimpleNamespace(Output=Output),
        "IPython": ModuleType("IPython"),
        "IPython.display": SimpleNamespace(display=shown.append),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    told(Console(file=io.StringIO(), force_jupyter=True))
    widget = next(each for each in shown if isinstance(each, Output))
    assert widget.closed


def test_reading_images_tells_the_bar_that_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        file = tmp_path / "test" / f"class{number % 2}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 40 * number).save(file)
    monkeypatch.setattr("robustprune.data.chunks._READ_SIZE", 2)
    screen = io.StringIO()
    with rp.progress_bar(Console(file=screen, force_terminal=True)):
        shown = rp.load_data(f"imagefolder:{tmp_path}")
    assert "looking at image files" in screen.getvalue()
    assert "reading images" in screen.getvalue()
    assert torch.equal(shown.require("test").images, rp.load_data(f"imagefolder:{tmp_path}").require("test").images)


def test_a_bar_is_shown_no_longer_than_it_is_there() -> None:
    assert shown_progress() is None
    with rp.progress_bar(Console(file=io.StringIO(), force_terminal=False)) as bar:
        assert shown_progress() is bar
    assert shown_progress() is None
