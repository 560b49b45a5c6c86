"""What Weights & Biases finds in its files, read as its messages and the log format that it names (LevelDB's)."""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from query_folder import RECORD, fill_with_histories
from support import Run, check_failure

_BLOCK = 32768
_FULL, _LAST = 1, 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fill_with_histories(tmp_path / "runs", 3)
    return tmp_path / "runs"


def chunks(content: bytes) -> Iterator[bytes]:
    """Yield the records of a log: blocks of 32 KiB, each chunk after its checksum, length and kind."""
    at, whole = 7, b""  # after the header of the file
    while at < len(content):
        if _BLOCK - at % _BLOCK < 7:
            at += _BLOCK - at % _BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (_FULL, _LAST):
            yield whole
            whole = b""


def read(home: Path) -> tuple[Any, dict[str, Any], list[dict[str, Any]]]:
    """Return a run's message, its configuration and its history."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = home.glob("run-*.wandb")
    described, settings, history = None, {}, []
    for chunk in chunks(path.read_bytes()):
        message = Record.FromString(chunk)
        if message.HasField("run"):
            described = message.run
            settings = {each.key: json.loads(each.value_json) for each in message.run.config.update}
        if message.HasField("history"):
            items = message.history.item
            history.append({each.key or "/".join(each.nested_key): json.loads(each.value_json) for each in items})
    return described, settings, history


@pytest.mark.slow
@pytest.mark.needs("wandb")
def test_runs_are_the_records_and_are_written_once(folder: Path, tmp_path: Path, run: Run) -> None:
    board = tmp_path / "board"
    before = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    first = run("query", str(folder), "--wandb", str(board), "--json")
    assert first.code == 0, first.err
    assert "3 runs were written for Weights & Biases" in first.err
    assert len(first.json) == 3  # and nothing else on stdout
    # Its service, which runs until this process ends, is named in a variable.
    assert {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"} == before
    found = sorted((read(home) for home in (board / "wandb").iterdir()), key=lambda each: each[0].display_name)
    assert [each[0].display_name for each in found] == ["run 0", "run 1", "run 2"]
    for number, (described, settings, history) in enumerate(found):
        assert described.project == "mine"
        assert settings["criterion"] == ("grasp", "snip")[number % 2]
        steps = {each["_step"]: each for each in history}
        assert [steps[step]["train/train_loss"] for step in (1, 2)] == [2.0, 1.5]
        assert steps[2]["measured/accuracy"] == pytest.approx(number / 3)
        assert steps[2]["measured/pgd_linf_8_255"] == RECORD["attacks"][0]["robust_accuracy"]
    assert sorted(path.name for path in board.iterdir()) == ["wandb"]
    there = {path: path.stat().st_mtime_ns for path in board.rglob("*")}
    assert "0 runs" in run("query", str(folder), "--wandb", str(board), "--json").err
    assert there == {path: path.stat().st_mtime_ns for path in board.rglob("*") if path != board}


def test_missing_package_is_one_clear_line(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    check_failure(run("query", str(folder), "--wandb", "board"), 1, "pip install 'robustprune[wandb]'")
