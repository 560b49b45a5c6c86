"""Records as offline runs of Weights & Biases: files that ``wandb sync`` uploads, should one want that.

Nothing here goes over the network, and no account is asked for.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robustprune.registry import missing_package
from robustprune.runtime.files import printable
from robustprune.runtime.launch import environment_variables
from robustprune.sweep.query.record_rows import RecordRow
from robustprune.sweep.query.trackers import TrackedRun, key_of, tracked_run, writing_to

# Errors of wandb's own would be reported to its makers, runs online are what it is set to by itself.
_OFFLINE = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}


def export_to_wandb(rows: list[RecordRow], folder: str | Path) -> int:
    """Write each row's record as an offline run, unless it is there already; return how many were written.

    A sweep is a project. Settings are the configuration; ``train/…`` is by epoch, ``measured/…`` the summary. Runs are
    ``wandb/offline-run-TIME-KEY`` in the folder, each put there in one rename.

    Args:
        rows: From :func:`robustprune.sweep.query.load_rows`.
        folder: What ``WANDB_DIR`` would be.

    Raises:
        MissingDependencyError: wandb is not installed.
        EvaluationError: The folder cannot be written.
    """
    with writing_to(folder), environment_variables(_OFFLINE), _workshop(Path(folder)) as workshop:
        try:
            import wandb
        except ModuleNotFoundError as error:
            raise missing_package("the exporter to Weights & Biases", "wandb") from error
        shelf = Path(folder, "wandb")
        missing = [row for row in rows if not list(shelf.glob(f"offline-run-*-{key_of(row)}"))]
        for row in missing:
            run = tracked_run(row)
            _write(wandb, run, workshop)
            shelf.mkdir(exist_ok=True)
            (made,) = workshop.glob(f"wandb/offline-run-*-{run.key}")
            made.rename(shelf / made.name)
    return len(missing)


def _write(wandb: Any, run: TrackedRun, folder: Path) -> None:
    made = wandb.init(
        mode="offline",
        dir=str(folder),
        project=run.sweep,
        id=run.key,
        name=run.name,
        config={**run.settings, "record": printable(run.record)},
        reinit="create_new",  # and leaves alone one that the caller may have under way
        settings=_settings(wandb),
    )
    for step, figures in run.steps():
        made.log(dict(figures), step=step)
    made.finish()


def _settings(wandb: Any) -> Any:
    """Return settings that leave out whatever would be said of this process: it is not the one that trained."""
    return wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )


@contextmanager
def _workshop(folder: Path) -> Iterator[Path]:
    """Yield a folder for runs that are not finished."""
    made = folder / ".unfinished.tmp"
    made.mkdir(parents=True, exist_ok=True)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
