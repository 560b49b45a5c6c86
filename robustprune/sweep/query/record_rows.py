"""The rows of a folder: of each run of its sweeps, or of all records that lie in it, a column for each main figure.

Records are read as the JSON they are: importing this loads no torch.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from robustprune.errors import EvaluationError, RecordWarning
from robustprune.runtime.files import printable
from robustprune.runtime.progress import counted
from robustprune.sweep.store import Store

if TYPE_CHECKING:
    from robustprune.runtime.work import Progress

RecordRow = dict[str, Any]

# Columns that say what was asked for; all others say what came of it.
SETTINGS = (
    *("model", "dataset", "split", "n", "method", "criterion", "choice", "blocks", "removed", "sparsity", "rewind"),
    *("seed", "training_epochs"),
)

_MODEL = ("parameters", "macs", "filters", "sha256", "path")
_CLEAN = ("accuracy", "nll", "ece", "brier")
_TRAINING = ("epochs", "seconds", "images_per_second", "energy_kwh", "co2_kg")
_CORRUPTIONS = ("mean_accuracy", "mean_error", "mean_error_19")
_DETECTION = ("auroc", "aupr_in", "aupr_out", "fpr95_ood_positive", "fpr95_id_positive")
# Settings of a run that its record says less of, or says otherwise: what was asked for is what is asked about.
_FROM_THE_RUN = (
    *("method", "criterion", "blocks", "eligibility", "match_by", "at_init", "rewind", "seed", "threads"),
    *("budget", "search", "objective", "rounds", "blocks_per_round", "fine_tune_epochs"),
)


def load_rows(folder: str | Path, progress: Progress | None = None) -> list[RecordRow]:
    """Return one row for every run of the sweeps in a folder that has a record; of a plain folder, for every record.

    ``progress`` is told how many records are read. One that cannot be is named in a
    :class:`~robustprune.errors.RecordWarning` and left out.

    Raises:
        EvaluationError: There is no such folder, or no record in it that can be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise EvaluationError(f"there is no folder {folder} to look for records in")
    rows = []
    problem: EvaluationError | None = None
    for path, run in counted(list(_records(folder)), progress, "reading records"):
        try:
            row = _read(path)
            if row is None and run:
                raise EvaluationError(f"{path} is no record, but other JSON")
        except EvaluationError as error:
            problem = problem or error
            warnings.warn(f"left out: {error}", RecordWarning, stacklevel=2)
            continue
        if row is not None:
            own_name = printable(path.name.removesuffix(".json"))
            rows.append({"run": own_name, "sweep": None, **row, **run, "record": str(path)})
    if not rows:
        why = f" that can be read: {problem}" if problem else "; records are what evaluate --out and sweep --out leave"
        raise EvaluationError(f"there is no record in {folder}{why}") from problem
    return rows


def _records(folder: Path) -> Iterator[tuple[Path, RecordRow]]:
    """Yield the files of records, and what a sweep knows of the run that left one."""
    store = Store(folder)
    plans, done = store.plans(), store.done()
    if not plans:
        for home, folders, files in os.walk(folder):
            names = [*folders, *files]  # a folder where a record should be is to be named, too
            yield from ((Path(home, name), {}) for name in sorted(names) if name.endswith(".json"))
        return
    seen: set[str] = set()
    for name, plan in plans.items():
        for run in plan.runs:
            if run.stage in done and run.stage not in seen:
                seen.add(run.stage)
                own = {key: run.settings[key] for key in _FROM_THE_RUN if key in run.settings}
                if own.get("budget"):  # which leaves it to a search how many blocks go
                    del own["blocks"]
                more = {key: value for key, value in run.settings.items() if key.startswith(("train_", "data_"))}
                options = {f"option_{key}": value for key, value in run.settings.get("criterion_options", {}).items()}
                yield store.record(run.stage), {"run": run.name, "sweep": name, **own, **more, **options}


def _read(path: Path) -> RecordRow | None:
    """Return the row of a record; None for JSON of another kind."""
    try:
        # Thrice as fast as the standard library's; all figures of a record are finite.
        content = from_json(path.read_bytes(), allow_inf_nan=False, cache_strings="keys")
    except OSError as error:
        raise EvaluationError(f"the record {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise EvaluationError(f"the record {path} cannot be read: {error}") from error
    if not isinstance(content, dict) or not {"schema", "model", "clean"} <= content.keys():
        return None
    try:
        return flatten(content)
    except (KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError, IndexError) as error:
        raise EvaluationError(f"{path} is no record of this version: {type(error).__name__}: {error}") from error


def flatten(record: Mapping[str, Any]) -> RecordRow:
    """Return the row of a record.

    Columns are named ``accuracy``, ``pgd_linf_8_255`` (robust accuracy; None where the attack was not valid),
    ``fog`` (mean accuracy over severities), ``noise_knn_auroc``, ``shift_NAME_accuracy`` and so on: letters, digits and
    underscores, so that they need no quotes in a condition.
    """
    model, plan = record["model"], record["model"]["plan"]
    row: RecordRow = {
        "model": model["architecture"],
        "dataset": record["dataset"],
        "split": record["split"],
        "n": record["n"],
        "method": {"none": "dense"}.get(plan["method"], plan["method"]),
        "criterion": plan["criterion"],
        "choice": plan.get("choice"),
        "blocks": len(model["removed"]) or None,
        "removed": ", ".join(model["removed"]),
        "sparsity": plan.get("sparsity"),
        "rewind": None if plan.get("rewound_to") is None else str(plan["rewound_to"]),
        "seed": model["training"].get("seed", model["initial_seed"]),
        **{name: model[name] for name in _MODEL},
        **{name: record["clean"][name] for name in _CLEAN},
        **{f"training_{name}": model["training"].get(name) for name in _TRAINING},
        "evaluation_seconds": record["seconds"],
    }
    return row | measured(record)


def measured(record: Mapping[str, Any]) -> RecordRow:
    """Return the part of a record's row that depends on what was asked for: attacks, corruptions and other sets."""
    return {_column(name): value for name, value in _measured(record)}


def attack_column(entry: Mapping[str, Any]) -> str:
    """Return the column of an attack at one budget."""
    return _column(f"{entry['name']}_{entry['norm']}_{_budget(entry['epsilon'])}")


def _measured(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for entry in record["attacks"]:
        yield attack_column(entry), entry["robust_accuracy"] if entry["valid"] else None
        if distance := entry.get("distance"):  # the same at every budget
            yield f"{entry['name']}_{entry['norm']}_distance", distance["median"] if entry["valid"] else None
    for entry in record.get("optimality", ()):
        yield f"{entry['name']}_{entry['norm']}_optimality", entry["optimality"]
    if corrupted := record.get("corruptions"):
        for name in _CORRUPTIONS:
            yield f"corruption_{name}", corrupted.get(name)
        if corrupted.get("dense"):
            yield "corruption_mce_vs_dense", corrupted["dense"]["mce_vs_dense"]
        for name, row in corrupted["table"].items():
            idle = corrupted.get("unchanged", {}).get(name, ())
            counted = [value for severity, value in enumerate(row, start=1) if severity not in idle]
            yield name, sum(counted) / len(counted) if counted else None
    if certified := record.get("certified"):
        for each in certified["at"]:
            yield f"certified_l2_{each['radius']:g}", each["accuracy"]
        yield "certified_radius", certified["average_radius"]
        yield "certified_abstained", certified["abstained"]
    for entry in record.get("shift", ()):
        yield f"shift_{entry['name']}_accuracy", entry["accuracy"]
        yield f"shift_{entry['name']}_gap", entry["gap"]
    for entry in record.get("ood", ()):
        for detector, figures in entry["detectors"].items():
            for name in _DETECTION:
                yield f"{entry['dataset']}_{detector}_{name}", figures.get(name)


def _budget(epsilon: float) -> str:
    """Return 8_255 for eight of 255, and other budgets as decimals."""
    levels = epsilon * 255
    return f"{round(levels)}_255" if epsilon < 1 and abs(levels - round(levels)) < 1e-6 else f"{epsilon:g}"


@cache  # names are few, records many
def _column(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").lower()
