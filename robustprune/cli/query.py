"""`robustprune query`: ask the records of a sweep."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import gathered
from robustprune.cli.paths import OUT_FOLDER, RecordFolder, Target

if TYPE_CHECKING:
    from robustprune.runtime.work import Progress


@dataclass(frozen=True)
class Question:
    """What is asked of rows, and how the answer is given."""

    where: str | None
    columns: str | None
    order: str | None
    form: Any
    out: str | None


def _question(form: Any, as_json: bool, out: str | None, **asked: Any) -> Question:
    form = "json" if as_json else form
    if form == "parquet" and out is None:
        raise click.UsageError("--format parquet is for files; name one with --out")
    if form == "table" and out is not None:
        raise click.UsageError("--out needs a --format: csv, json or parquet")
    return Question(form=form, out=out, **asked)


question_options = gathered(
    "question",
    _question,
    click.option("--where", help="Condition in SQL: \"criterion=='grasp' and blocks>=3\"."),
    click.option("--columns", help="Columns, or SQL such as avg(accuracy) as mean; `all` for every column."),
    click.option("--order", help="Order of the rows: accuracy desc."),
    click.option(
        "--format",
        "form",
        type=click.Choice(["table", "csv", "json", "parquet"]),
        default="table",
        help="Format of the answer.",
    ),
    click.option("--out", type=Target(dir_okay=False), help="File to write to; parquet needs one."),
    click.option("--json", "as_json", is_flag=True, help="Short for --format json."),
)
"""For ``question: Question``."""


@commands.command(examples=["runs --where \"criterion = 'grasp'\" --order 'accuracy desc'"])
@click.argument("folder", type=RecordFolder(file_okay=False))
@question_options
@click.option("--tensorboard", type=OUT_FOLDER, help="Folder to export the records to, for TensorBoard.")
@click.option("--mlflow", type=OUT_FOLDER, help="Folder to export the records to, as an MLflow store.")
@click.option("--wandb", type=OUT_FOLDER, help="Folder to export the records to, as offline runs of Weights & Biases.")
def query(folder: str, question: Question, **trackers: str | None) -> None:
    """Show the runs of a folder that meet a condition, one run per row.

    `--columns all --format json` shows all columns.
    """
    from robustprune.sweep.query import load_rows

    with terminal.progress_bar() as bar:
        rows = load_rows(folder, bar)
        _export(rows, bar, **trackers)
    answer(question, rows, folder)


def answer(question: Question, rows: list[Any], called: str) -> None:
    """Write the rows that are asked for, or draw them."""
    from robustprune.sweep.query import query as ask

    form, out = question.form, question.out
    wanted = ["*"] if question.columns == "all" else _split(question.columns) if question.columns else None
    found = ask(rows, question.where, wanted, order=question.order, out=out, form=form)
    if form == "json" and out is None:
        terminal.print_json(json.dumps(found.to_dicts(), indent=2, allow_nan=False))
    elif form == "csv" and out is None:
        import csv

        csv.writer(sys.stdout, lineterminator="\n").writerows([found.columns, *found.rows])
    elif form == "table":
        terminal.table(
            f"{len(found.rows)} of {len(rows)} rows of {called}",
            [
                f">{name}" if any(isinstance(row[place], int | float) for row in found.rows) else name
                for place, name in enumerate(found.columns)
            ],
            [[_cell(value) for value in row] for row in found.rows],
        )


def _export(
    rows: list[Any], progress: Progress, tensorboard: str | None, mlflow: str | None, wandb: str | None
) -> None:
    """Copy records for trackers, and say how to look at them."""
    if tensorboard is not None:
        from robustprune.sweep.query.trackers import export_to_tensorboard

        written = export_to_tensorboard(rows, tensorboard, progress)
        terminal.say(
            f"{written} runs were written for TensorBoard; look at them with: tensorboard --logdir {tensorboard}"
        )
    if mlflow is not None:
        from robustprune.sweep.query.trackers import export_to_mlflow, store_address

        written = export_to_mlflow(rows, mlflow, progress)
        command = f"mlflow ui --backend-store-uri {store_address(mlflow)}"
        terminal.say(f"{written} runs were written for MLflow; look at them with: {command}")
    if wandb is not None:
        from robustprune.sweep.query.trackers import export_to_wandb

        written = export_to_wandb(rows, wandb, progress)
        uploading = f"wandb sync {wandb}/wandb/offline-run-*"
        terminal.say(f"{written} runs were written for Weights & Biases; upload them with: {uploading}")


def _split(columns: str) -> list[str]:
    """Return what commas separate, but for those within parentheses."""
    parts, depth = [""], 0
    for letter in columns:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
