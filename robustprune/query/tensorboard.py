"""Records as runs of TensorBoard: training by epoch, and what was measured.

Records stay the truth; this is a copy to look at. It takes the package ``tensorboard`` alone, not torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustprune.errors import EvaluationError
from robustprune.query.flatten import Row, flatten
from robustprune.registry import missing_package

_NAMES = ("run", "sweep", "record", "sha256", "path", "removed")


def export_to_tensorboard(rows: list[Row], folder: str | Path) -> int:
    """Write each row's record as a run, unless it is there already; return how many were written.

    Scalars ``train/…`` are by epoch, ``measured/…`` stand at the last one; settings are hyper-parameters.

    Args:
        rows: From :func:`robustprune.query.load_rows`.
        folder: TensorBoard's ``--logdir``.

    Raises:
        MissingDependencyError: TensorBoard is not installed.
        EvaluationError: The folder cannot be written.
    """
    try:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ModuleNotFoundError as error:
        raise missing_package("the exporter to TensorBoard", "tensorboard") from error
    written = 0
    for row in rows:
        # The hash, as runs of two sweeps may have one name.
        home = Path(folder) / f"{_name(row['run'])}-{Path(row['record']).parent.name[-8:]}"
        if home.exists():
            continue
        record = json.loads(Path(row["record"]).read_text())
        unfinished = home.with_name(f".{home.name}.tmp")
        try:
            writer = EventFileWriter(str(unfinished))
            for event in _events(record, row):
                writer.add_event(event)
            writer.close()
            unfinished.rename(home)
        except OSError as error:
            raise EvaluationError(f"nothing can be written to {folder}: {error.strerror}") from error
        written += 1
    return written


def _events(record: Mapping[str, Any], row: Row) -> list[Any]:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import summary_v2

    measured = {name: value for name, value in flatten(record).items() if _is_figure(value)}
    settings = {name: value for name, value in row.items() if name not in measured and name not in _NAMES}
    plain = {name: value for name, value in settings.items() if isinstance(value, str | bool | int | float)}
    events = [Event(summary=summary_v2.hparams_pb(plain))]
    history = record["model"].get("history", [])
    for entry in history:
        scalars = {f"train/{name}": value for name, value in entry.items() if name != "epoch" and _is_figure(value)}
        events.append(_scalars(Event, Summary, int(entry["epoch"]), scalars))
    events.append(
        _scalars(Event, Summary, len(history), {f"measured/{name}": value for name, value in measured.items()})
    )
    return events


def _scalars(event: Any, summary: Any, step: int, values: Mapping[str, float]) -> Any:
    listed = [summary.Value(tag=name, simple_value=value) for name, value in values.items()]
    return event(step=step, summary=summary(value=listed))


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name(run: str) -> str:
    return re.sub(r"[^\w.-]+", "-", run)
