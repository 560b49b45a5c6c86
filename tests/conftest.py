"""What many tests share."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from extras import skip_what_needs_more
from hypothesis import settings
from quick_cases import leave_some_quick
from support import Outcome, Run

from robustprune.cli import main
from robustprune.data import ImageData, load_data

# The same examples in every run: a test that fails does so for everyone, and again.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.hookimpl(tryfirst=True)  # before those of a mark are chosen
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip_what_needs_more(items)
    leave_some_quick(items)


@pytest.fixture(scope="session")
def digits() -> ImageData:
    return load_data("digits")


@pytest.fixture(scope="session")
def few_digits() -> ImageData:
    return load_data("digits", train_limit=200)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # Small networks gain nothing from a second thread, and two processes with two each crawl on two cores.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_generator_state() -> None:
    torch.manual_seed(20230130)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in an empty folder, in this process; what it prints depends on no clock."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("robustprune.runtime.progress._FIRST_LINE", math.inf)
    monkeypatch.setattr("robustprune.runtime.contention.Shortage.look", lambda _: None)

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["robustprune", *arguments])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Outcome(code, *capsys.readouterr())

    return call
