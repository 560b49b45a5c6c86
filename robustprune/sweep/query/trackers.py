"""Runs for TensorBoard, MLflow and Weights & Biases: settings, what was measured, and curves by epoch.

Records stay the truth; what exporters leave is a copy to look at, and what is there already is not written again.
Nothing goes over the network. Each exporter takes its own package alone, not torch, and tells ``progress`` how many
runs it is done with. It raises :class:`~robustprune.errors.MissingDependencyError` where that is not installed, and
:class:`~robustprune.errors.EvaluationError` where the folder cannot be written.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from robustprune.errors import EvaluationError, in_one_line
from robustprune.registry import missing_package
from robustprune.runtime.files import all_printable, hash_json, printable
from robustprune.runtime.launch import environment_variables, logging_from
from robustprune.runtime.progress import counted
from robustprune.sweep.query.record_rows import SETTINGS, RecordRow, flatten

if TYPE_CHECKING:
    from robustprune.runtime.work import Progress

_NAMES = ("run", "sweep", "record", "sha256", "path", "removed")

Plain = str | bool | int | float


@dataclass(frozen=True)
class TrackedRun:
    """A run, as trackers show it.

    Attributes:
        name: For readers.
        key: Unlike that of any other run, and fit for a file: see :func:`key_of`.
        sweep: The sweep that it belongs to; ``records`` outside of one.
        record: The file it comes from.
        settings: What was asked for.
        measured: Figures of the trained network, ``measured/…``.
        steps: The figures of each epoch, ``train/…``, and of the last one, 0 without training, again what was measured.
    """

    name: str
    key: str
    sweep: str
    record: str
    settings: Mapping[str, Plain]
    measured: Mapping[str, float]
    steps: list[tuple[int, Mapping[str, float]]]


def tracked_run(row: RecordRow) -> TrackedRun:
    """Return the run behind a row of :func:`robustprune.sweep.query.load_rows`; its record is read."""
    record = all_printable(json.loads(Path(row["record"]).read_bytes()))
    figures = _figures("", {name: value for name, value in flatten(record).items() if name not in SETTINGS})
    settings = {name: value for name, value in row.items() if name not in figures and name not in _NAMES}
    curves = {int(entry.pop("epoch")): _figures("train/", entry) for entry in record["model"].get("history", [])}
    measured = _figures("measured/", figures)
    return TrackedRun(
        name=row["run"],
        key=key_of(row),
        sweep=row["sweep"] or "records",
        record=row["record"],
        settings={name: value for name, value in settings.items() if isinstance(value, Plain)},
        measured=measured,
        steps=[*sorted(curves.items()), (max(curves, default=0), measured)],
    )


def _figures(prefix: str, values: Mapping[str, Any]) -> dict[str, float]:
    return {
        f"{prefix}{name}": value
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def key_of(row: RecordRow) -> str:
    """Return a run's key: its name, which others may have, and what no other has.

    Of a run of a sweep, that is the end of its stage's address, which says what was computed wherever the folder is; of
    any other record, a hash of where it lies.
    """
    name = re.sub(r"[^\w.-]+", "-", row["run"])
    place = Path(row["record"])
    own = place.parent.name[-8:] if row["sweep"] else hash_json(str(place.resolve()))[:8]
    return f"{name}-{own}"


@contextmanager
def _exporting(tracker: str, extra: str, folder: str | Path) -> Iterator[None]:
    """Say which package is missing, or which folder cannot be written."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or extra).partition(".")[0]
        raise missing_package(f"the exporter to {tracker}", package, extra=extra) from error
    except (OSError, UnicodeEncodeError) as error:  # some trackers take no name that is not UTF-8
        reason = getattr(error, "strerror", None) or error
        raise EvaluationError(f"nothing can be written to {folder}: {reason}; name another folder") from error


def export_to_tensorboard(rows: list[RecordRow], folder: str | Path, progress: Progress | None = None) -> int:
    """Write the record of each row to TensorBoard's ``--logdir``, unless it is there; return how many were written.

    Scalars ``train/…`` are by epoch, ``measured/…`` stand at the last one; settings are hyper-parameters.
    """
    with _exporting("TensorBoard", "tensorboard", folder):
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import summary_v2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        missing = [row for row in rows if not Path(folder, key_of(row)).exists()]
        for run in map(tracked_run, counted(missing, progress, "TensorBoard")):
            home = Path(folder, run.key)
            unfinished = home.with_name(f".{home.name}.tmp")
            writer = EventFileWriter(str(unfinished))
            writer.add_event(Event(summary=summary_v2.hparams_pb(dict(run.settings))))
            for epoch, figures in run.steps:
                values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
                writer.add_event(Event(step=epoch, summary=Summary(value=values)))
            writer.close()
            unfinished.rename(home)
    return len(missing)


_KEY, _RECORD = "robustprune.key", "robustprune.record"
_FINISHED = "FINISHED"
_TALKATIVE = ("mlflow.store.db.utils", "alembic")  # they tell how tables are made
_AT_ONCE = {"metrics": 1000, "params": 100}  # what MLflow takes in one call


def store_address(folder: str | Path) -> str:
    """Return the address of the store in a folder, for ``mlflow ui --backend-store-uri`` and ``set_tracking_uri``."""
    return f"sqlite:///{Path(folder).absolute() / 'mlflow.db'}"


def export_to_mlflow(rows: list[RecordRow], folder: str | Path, progress: Progress | None = None) -> int:
    """Write the record of each row to ``mlflow.db`` in a folder, unless it is there; return how many were written.

    A sweep is an experiment. Settings are parameters; metrics ``train/…`` are by epoch, ``measured/…`` stand at the
    last one. A run counts as there once MLflow says that it is finished; what a killed exporter left is replaced.
    """
    with (
        _exporting("MLflow", "mlflow", folder),
        environment_variables({"MLFLOW_DISABLE_TELEMETRY": "true"}),  # which would go over the network
        logging_from(logging.WARNING, *_TALKATIVE),
    ):
        import alembic  # noqa: F401  # mlflow-skinny comes without these two, and says so only deep inside
        import sqlalchemy  # noqa: F401
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        Path(folder).mkdir(parents=True, exist_ok=True)
        try:
            client = MlflowClient(store_address(folder))
            return sum(_write_to_mlflow(client, row, Path(folder)) for row in counted(rows, progress, "MLflow"))
        except MlflowException as error:
            raise EvaluationError(f"MLflow cannot write to {folder}: {in_one_line(error)}") from error


def _write_to_mlflow(client: Any, row: RecordRow, folder: Path) -> bool:
    """Write a run unless it is there and finished; return whether it was written."""
    from mlflow.entities import Metric, Param

    name = row["sweep"] or "records"
    found = client.get_experiment_by_name(name)
    # Without a place of its own, artifacts would be looked for in the folder that one happens to be in.
    place = (folder.absolute() / "artifacts").as_uri()
    experiment = found.experiment_id if found else client.create_experiment(name, artifact_location=place)
    for there in client.search_runs([experiment], f"tags.`{_KEY}` = '{key_of(row)}'"):
        if there.info.status == _FINISHED:
            return False
        client.delete_run(there.info.run_id)
    run = tracked_run(row)
    when = Path(run.record).stat().st_mtime_ns // 1_000_000
    tags = {_KEY: run.key, _RECORD: printable(run.record)}
    made = client.create_run(experiment, start_time=when, tags=tags, run_name=run.name).info.run_id
    everything: dict[str, list[Any]] = {
        "params": [Param(name, str(value)) for name, value in run.settings.items()],
        "metrics": [Metric(name, value, when, step) for step, values in run.steps for name, value in values.items()],
    }
    for kind, entries in everything.items():
        for start in range(0, len(entries), _AT_ONCE[kind]):
            client.log_batch(made, **{kind: entries[start : start + _AT_ONCE[kind]]})
    client.set_terminated(made, status=_FINISHED, end_time=when)
    return True


# Errors of wandb's own would be reported to its makers, runs online are what it is set to by itself.
_OFFLINE = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
# Whatever would be said of this process is left out: it is not the one that trained.
_OF_THE_RECORD_ALONE: dict[str, Any] = {
    **{"console": "off", "silent": True, "disable_git": True, "disable_code": True, "x_disable_meta": True},
    **{"x_disable_stats": True, "x_disable_machine_info": True, "x_save_requirements": False},
}


def export_to_wandb(rows: list[RecordRow], folder: str | Path, progress: Progress | None = None) -> int:
    """Write the record of each row as an offline run, unless it is there; return how many were written.

    A sweep is a project. Settings are the configuration; ``train/…`` is by epoch, ``measured/…`` the summary. Runs are
    ``wandb/offline-run-TIME-KEY`` in the folder, which ``wandb sync`` uploads, each put there in one rename.
    """
    with _exporting("Weights & Biases", "wandb", folder), environment_variables(_OFFLINE):
        import wandb

        shelf = Path(folder, "wandb")
        shelf.mkdir(parents=True, exist_ok=True)
        missing = [row for row in rows if not list(shelf.glob(f"offline-run-*-{key_of(row)}"))]
        with TemporaryDirectory(prefix=".unfinished-", dir=folder) as workshop:
            for run in map(tracked_run, counted(missing, progress, "Weights & Biases")):
                made = wandb.init(
                    mode="offline",
                    dir=workshop,
                    project=run.sweep,
                    id=run.key,
                    name=run.name,
                    config={**run.settings, "record": printable(run.record)},
                    reinit="create_new",  # and leaves alone one that the caller may have under way
                    settings=wandb.Settings(**_OF_THE_RECORD_ALONE),
                )
                for step, figures in run.steps:
                    made.log(dict(figures), step=step)
                made.finish()
                (home,) = Path(workshop).glob(f"wandb/offline-run-*-{run.key}")
                home.rename(shelf / home.name)
    return len(missing)
