"""Records as runs of MLflow, in a SQLite file that its server and its Python client read; no server is needed here."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robustprune.errors import EvaluationError, in_one_line
from robustprune.registry import missing_package
from robustprune.runtime.files import printable
from robustprune.runtime.launch import environment_variables, logging_from
from robustprune.sweep.query.record_rows import RecordRow
from robustprune.sweep.query.trackers import TrackedRun, key_of, tracked_run, writing_to

_KEY, _RECORD = "robustprune.key", "robustprune.record"
_FINISHED = "FINISHED"
_SILENT = {"MLFLOW_DISABLE_TELEMETRY": "true"}  # which would go over the network
_TALKATIVE = ("mlflow.store.db.utils", "alembic")  # they tell how tables are made
_METRICS_AT_ONCE = 1000  # what MLflow takes in one call; parameters and all together likewise
_PARAMETERS_AT_ONCE = 100


def store_address(folder: str | Path) -> str:
    """Return the address of the store in a folder, for ``mlflow ui --backend-store-uri`` and ``set_tracking_uri``."""
    return f"sqlite:///{Path(folder).absolute() / 'mlflow.db'}"


def export_to_mlflow(rows: list[RecordRow], folder: str | Path) -> int:
    """Write each row's record as a run, unless it is there already; return how many were written.

    A sweep is an experiment. Settings are parameters; metrics ``train/…`` are by epoch, ``measured/…`` stand at the
    last one. A run counts as there once MLflow says that it is finished; what a killed exporter left is replaced.

    Args:
        rows: From :func:`robustprune.sweep.query.load_rows`.
        folder: For ``mlflow.db``.

    Raises:
        MissingDependencyError: MLflow, or what it needs for SQLite, is not installed.
        EvaluationError: The folder cannot be written.
    """
    with environment_variables(_SILENT), writing_to(folder), logging_from(logging.WARNING, *_TALKATIVE):
        try:
            import alembic  # noqa: F401  # mlflow-skinny comes without these two, and says so only deep inside
            import sqlalchemy  # noqa: F401
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        except ModuleNotFoundError as error:
            raise missing_package("the exporter to MLflow", "mlflow-skinny sqlalchemy alembic") from error
        Path(folder).mkdir(parents=True, exist_ok=True)
        try:
            return _write_missing(MlflowClient(store_address(folder)), rows, Path(folder))
        except MlflowException as error:
            raise EvaluationError(f"MLflow cannot write to {folder}: {in_one_line(error)}") from error


def _write_missing(client: Any, rows: list[RecordRow], folder: Path) -> int:
    finished: dict[str, set[str]] = {}
    written = 0
    for row in rows:
        run_key, sweep = key_of(row), row["sweep"] or "records"
        if sweep not in finished:
            finished[sweep] = _tidy(client, _experiment(client, sweep, folder))
        if run_key not in finished[sweep]:
            _write(client, _experiment(client, sweep, folder), tracked_run(row))
            written += 1
    return written


def _experiment(client: Any, name: str, folder: Path) -> str:
    found = client.get_experiment_by_name(name)
    # Without a place of its own, artifacts would be looked for in the folder that one happens to be in.
    place = (folder.absolute() / "artifacts").as_uri()
    return str(found.experiment_id if found else client.create_experiment(name, artifact_location=place))


def _tidy(client: Any, experiment: str) -> set[str]:
    """Delete the runs that an exporter left unfinished; return the keys of the others."""
    keys = set()
    for run in _runs(client, experiment):
        if _KEY not in run.data.tags:
            continue  # somebody else's
        if run.info.status == _FINISHED:
            keys.add(run.data.tags[_KEY])
        else:
            client.delete_run(run.info.run_id)
    return keys


def _runs(client: Any, experiment: str) -> Iterator[Any]:
    page = client.search_runs([experiment])
    yield from page
    while page.token:
        page = client.search_runs([experiment], page_token=page.token)
        yield from page


def _write(client: Any, experiment: str, run: TrackedRun) -> None:
    from mlflow.entities import Metric, Param

    when = Path(run.record).stat().st_mtime_ns // 1_000_000
    tags = {_KEY: run.key, _RECORD: printable(run.record)}
    made = client.create_run(experiment, start_time=when, tags=tags, run_name=run.name).info.run_id
    parameters = [Param(name, str(value)) for name, value in run.settings.items()]
    metrics = [Metric(name, value, when, step) for step, values in run.steps() for name, value in values.items()]
    for start in range(0, len(parameters), _PARAMETERS_AT_ONCE):
        client.log_batch(made, params=parameters[start : start + _PARAMETERS_AT_ONCE])
    for start in range(0, len(metrics), _METRICS_AT_ONCE):
        client.log_batch(made, metrics=metrics[start : start + _METRICS_AT_ONCE])
    client.set_terminated(made, status=_FINISHED, end_time=when)
