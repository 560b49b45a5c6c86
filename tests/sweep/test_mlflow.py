"""What MLflow reads of records, by its own client.

MLflow asks for newer releases of requests and certifi than those that are tested together here, so it is tested where
it is installed: see docs/sweeps.md.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from query_folder import RECORD, fill_with_histories

from robustprune.errors import MissingDependencyError
from robustprune.sweep.query import load_rows
from robustprune.sweep.query.trackers import export_to_mlflow, store_address

# Where MLflow describes its tables, in a way that SQLAlchemy is about to give up.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fill_with_histories(tmp_path / "runs", 3)
    return tmp_path / "runs"


def runs_in(store: Path) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(store_address(store))
    experiment = client.get_experiment_by_name("mine")
    return list(client.search_runs([experiment.experiment_id], order_by=["attributes.run_name"]))


def test_runs_are_the_records(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    assert export_to_mlflow(load_rows(folder), tmp_path / "store") == 3
    client = MlflowClient(store_address(tmp_path / "store"))
    found = runs_in(tmp_path / "store")
    assert [run.info.run_name for run in found] == ["run 0", "run 1", "run 2"]
    for number, run in enumerate(found):
        history = client.get_metric_history(run.info.run_id, "train/train_loss")
        assert [(each.step, each.value) for each in history] == [(1, 2.0), (2, 1.5)]
        (accuracy,) = client.get_metric_history(run.info.run_id, "measured/accuracy")
        assert (accuracy.step, accuracy.value) == (2, pytest.approx(number / 3))
        assert run.data.metrics["measured/pgd_linf_8_255"] == RECORD["attacks"][0]["robust_accuracy"]
        assert run.data.params["criterion"] == ("grasp", "snip")[number % 2]
        assert run.info.status == "FINISHED"


def test_what_is_there_is_not_written_again_and_what_is_half_there_is_replaced(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    rows = load_rows(folder)
    assert export_to_mlflow(rows[:2], tmp_path / "store") == 2
    first, second = runs_in(tmp_path / "store")
    MlflowClient(store_address(tmp_path / "store")).update_run(second.info.run_id, status="RUNNING")  # as if killed
    assert export_to_mlflow(rows, tmp_path / "store") == 2
    assert export_to_mlflow(rows, tmp_path / "store") == 0
    again = runs_in(tmp_path / "store")
    assert [run.info.run_name for run in again] == ["run 0", "run 1", "run 2"]
    assert again[0].info.run_id == first.info.run_id
    assert second.info.run_id not in {run.info.run_id for run in again}


def test_missing_package_is_said_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "mlflow.exceptions", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'robustprune\[mlflow\]'"):
        export_to_mlflow([], tmp_path / "store")
    assert not (tmp_path / "store").exists()
