"""Records as runs of TensorBoard. It takes the package ``tensorboard`` alone, not torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustprune.registry import missing_package
from robustprune.sweep.query.flatten import Row
from robustprune.sweep.query.tracked import TrackedRun, key_of, tracked_run, writing_to


def export_to_tensorboard(rows: list[Row], folder: str | Path) -> int:
    """Write each row's record as a run, unless it is there already; return how many were written.

    Scalars ``train/…`` are by epoch, ``measured/…`` stand at the last one; settings are hyper-parameters.

    Args:
        rows: From :func:`robustprune.sweep.query.load_rows`.
        folder: TensorBoard's ``--logdir``.

    Raises:
        MissingDependencyError: TensorBoard is not installed.
        EvaluationError: The folder cannot be written.
    """
    try:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ModuleNotFoundError as error:
        raise missing_package("the exporter to TensorBoard", "tensorboard") from error
    missing = [row for row in rows if not Path(folder, key_of(row)).exists()]
    for row in missing:
        run = tracked_run(row)
        home = Path(folder, run.key)
        unfinished = home.with_name(f".{home.name}.tmp")
        with writing_to(folder):
            writer = EventFileWriter(str(unfinished))
            for event in _events(run):
                writer.add_event(event)
            writer.close()
            unfinished.rename(home)
    return len(missing)


def _events(run: TrackedRun) -> list[Any]:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import summary_v2

    settings = Event(summary=summary_v2.hparams_pb(dict(run.settings)))
    return [settings, *(_scalars(Event, Summary, epoch, figures) for epoch, figures in run.steps())]


def _scalars(event: Any, summary: Any, step: int, values: Mapping[str, float]) -> Any:
    listed = [summary.Value(tag=name, simple_value=value) for name, value in values.items()]
    return event(step=step, summary=summary(value=listed))
