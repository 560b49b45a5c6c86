"""The bar that Python shows: on a terminal, in a notebook, and nowhere else."""

from __future__ import annotations

import io
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

import robustprune as rp
from robustprune.runtime.work import labelled


def told(console: Console) -> None:
    with rp.progress_bar(console) as bar:
        tell = labelled(rp.Work(progress=bar).progress, "epoch [1]")
        assert tell is not None
        for done in range(3):
            tell(done, 2)


def test_a_terminal_shows_the_label_and_a_file_nothing() -> None:
    terminal, file = io.StringIO(), io.StringIO()
    told(Console(file=terminal, force_terminal=True))
    assert "epoch [1]" in terminal.getvalue()
    assert "100%" in terminal.getvalue()
    told(Console(file=file, force_terminal=False))
    assert file.getvalue().strip() == ""


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
