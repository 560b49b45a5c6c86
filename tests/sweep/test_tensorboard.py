"""What TensorBoard reads of records, by its own reader."""

from __future__ import annotations

from pathlib import Path

import pytest
from extras import needs
from query_folder import RECORD, fill_with_histories
from support import Run

from robustprune.sweep.query import load_rows
from robustprune.sweep.query.trackers import export_to_tensorboard

EventAccumulator = needs("tensorboard.backend.event_processing.event_accumulator").EventAccumulator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fill_with_histories(tmp_path / "runs", 3)
    return tmp_path / "runs"


def test_scalars_are_the_records(folder: Path, tmp_path: Path) -> None:
    assert export_to_tensorboard(load_rows(folder), tmp_path / "board") == 3
    homes = sorted((tmp_path / "board").iterdir())
    assert [home.name[:5] for home in homes] == ["run-0", "run-1", "run-2"]
    for number, home in enumerate(homes):
        found = EventAccumulator(str(home))
        found.Reload()
        assert [(each.step, each.value) for each in found.Scalars("train/train_loss")] == [(1, 2.0), (2, 1.5)]
        (accuracy,) = found.Scalars("measured/accuracy")
        assert (accuracy.step, accuracy.value) == (2, pytest.approx(number / 3))
        (attacked,) = found.Scalars("measured/pgd_linf_8_255")
        assert attacked.value == RECORD["attacks"][0]["robust_accuracy"]


def test_what_is_there_is_not_written_again(folder: Path, tmp_path: Path, run: Run) -> None:
    first = run("query", str(folder), "--tensorboard", str(tmp_path / "board"), "--json")
    assert first.code == 0
    assert "3 runs" in first.err
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "board").rglob("*")}
    assert export_to_tensorboard(load_rows(folder), tmp_path / "board") == 0
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "board").rglob("*")}
