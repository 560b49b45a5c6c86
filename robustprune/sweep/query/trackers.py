"""What a run is to a tracker, its settings, what was measured of it and its curves by epoch; and runs for TensorBoard.

Records stay the truth; what exporters leave is a copy to look at. TensorBoard takes its own package alone, not torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustprune.errors import EvaluationError
from robustprune.registry import missing_package
from robustprune.runtime.files import all_printable, hash_json
from robustprune.sweep.query.record_rows import SETTINGS, RecordRow, flatten

_NAMES = ("run", "sweep", "record", "sha256", "path", "removed")

Plain = str | bool | int | float


@dataclass(frozen=True)
class TrackedRun:
    """A run, as trackers show it.

    Attributes:
        name: For readers.
        key: Its name and a hash, see :func:`key_of`: unlike that of any other run, and fit for a file.
        sweep: The sweep that it belongs to; ``records`` outside of one.
        record: The file it comes from.
        settings: What was asked for.
        curves: Epoch → figures of training, ``train/…``.
        measured: Figures of the trained network, ``measured/…``, which belong to the last epoch.
    """

    name: str
    key: str
    sweep: str
    record: str
    settings: Mapping[str, Plain]
    curves: Mapping[int, Mapping[str, float]]
    measured: Mapping[str, float]

    def steps(self) -> list[tuple[int, Mapping[str, float]]]:
        """Return the figures of each epoch, and of the last one, 0 without training, again what was measured."""
        return [*sorted(self.curves.items()), (max(self.curves, default=0), self.measured)]


def tracked_run(row: RecordRow) -> TrackedRun:
    """Return the run behind a row of :func:`robustprune.sweep.query.load_rows`; its record is read."""
    record = all_printable(json.loads(Path(row["record"]).read_bytes()))
    figures = {name: value for name, value in flatten(record).items() if name not in SETTINGS and _is_figure(value)}
    settings = {name: value for name, value in row.items() if name not in figures and name not in _NAMES}
    return TrackedRun(
        name=row["run"],
        key=key_of(row),
        sweep=row["sweep"] or "records",
        record=row["record"],
        settings={name: value for name, value in settings.items() if isinstance(value, Plain)},
        curves=_curves(record["model"].get("history", [])),
        measured={f"measured/{name}": value for name, value in figures.items()},
    )


def key_of(row: RecordRow) -> str:
    """Return a run's key: its name, which others may have, and what no other has.

    Of a run of a sweep, that is the end of its stage's address, which says what was computed wherever the folder is; of
    any other record, a hash of where it lies.
    """
    name = re.sub(r"[^\w.-]+", "-", row["run"])
    place = Path(row["record"])
    own = place.parent.name[-8:] if row["sweep"] else hash_json(str(place.resolve()))[:8]
    return f"{name}-{own}"


def _curves(history: list[Mapping[str, Any]]) -> dict[int, dict[str, float]]:
    return {
        int(entry["epoch"]): {
            f"train/{name}": value for name, value in entry.items() if name != "epoch" and _is_figure(value)
        }
        for entry in history
    }


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@contextmanager
def writing_to(folder: str | Path) -> Iterator[None]:
    """Say which folder it is that cannot be written.

    Raises:
        EvaluationError: In place of an error of the operating system.
    """
    try:
        yield
    except OSError as error:
        raise EvaluationError(f"nothing can be written to {folder}: {error.strerror or error}") from error
    except UnicodeEncodeError as error:
        raise EvaluationError(
            f"nothing can be written to {folder}: the tracker takes no name that is not UTF-8; name another folder"
        ) from error


def export_to_tensorboard(rows: list[RecordRow], folder: str | Path) -> int:
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

    events = [Event(summary=summary_v2.hparams_pb(dict(run.settings)))]
    for epoch, figures in run.steps():
        values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        events.append(Event(step=epoch, summary=Summary(value=values)))
    return events
