"""`robustprune evaluate`: accuracy, calibration and attacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rich_click as click

from robustprune import terminal
from robustprune.cli.application import commands
from robustprune.cli.ood import ood_options, ood_tables, take_ood_options
from robustprune.cli.options import (
    OUT_FILE,
    common_options,
    data_options,
    model_options,
    open_named,
    refuse_to_overwrite,
)
from robustprune.cli.tables import interval_text

if TYPE_CHECKING:
    from robustprune.records import Record


@commands.command()
@model_options
@data_options
@click.option("--attack", "attacks", multiple=True, help="See `robustprune list attacks`; may be repeated.")
@click.option("--eps", default="8/255", show_default=True, help="Budgets, e.g. 2/255,8/255.")
@click.option("--norm", type=click.Choice(["linf", "l2"]), default="linf", show_default=True)
@click.option("--steps", type=click.IntRange(min=1), help="Gradient steps of iterative attacks.")
@click.option("--step-size", type=float, help="Constant step; by default steps fall linearly from ε to 0.")
@click.option("--restarts", type=click.IntRange(min=1), default=1, show_default=True)
@ood_options
@click.option("--split", type=click.Choice(["test", "val", "train"]), default="test", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="Evaluate a stratified sample of so many images.")
@click.option("--batch-size", type=click.IntRange(min=1), default=256, show_default=True)
@click.option("--out", type=OUT_FILE, help="File of the record.")
@common_options
def evaluate(
    eps: str, steps: int | None, step_size: float | None, out: str | None, as_json: bool, **options: Any
) -> None:
    """Measure accuracy and calibration of a network, attack it, and see whether it can be told what is foreign."""
    from robustprune.evaluation import evaluate as run

    refuse_to_overwrite(options["model"], out)
    ood = take_ood_options(options)
    ticket, data = open_named(options)
    ticket.network.to(options.pop("device"))
    attack_options = {"steps": steps, "step_size": step_size}
    with terminal.progress_bar() as bar:
        record = run(
            ticket,
            data,
            epsilons=[epsilon.strip() for epsilon in eps.split(",")],
            options={name: value for name, value in attack_options.items() if value is not None},
            path=options.pop("model"),
            progress=bar,
            **ood,
            **options,
        )
    if out is not None:
        record.save(out)
    if as_json:
        terminal.print_json(record.to_json())
    else:
        _record_table(record, out)
        ood_tables(record)


def _record_table(record: Record, out: str | None) -> None:
    clean = record.clean
    rows = [["none", "", terminal.percent(clean.accuracy), interval_text(clean.interval), "", ""]]
    for entry in record.attacks:
        rows.append(
            [
                entry.name + (f"-{entry.steps}" if entry.steps else ""),
                f"{entry.norm} {entry.epsilon:.4g}",
                terminal.percent(entry.robust_accuracy) if entry.valid else "invalid",
                interval_text(entry.interval) if entry.valid else "",
                terminal.seconds(entry.seconds),
                "; ".join(
                    f"{check.verdict} {check.name}: {check.detail}"
                    for check in entry.checks
                    if check.verdict in ("WARN", "FAIL")
                ),
            ]
        )
    where = f"; record in {out}" if out else ""
    terminal.table(
        f"{record.model.architecture} on {record.n} {record.split} images of {record.dataset}",
        ["attack", "ε", ">accuracy", "95 % interval", ">time", "warnings"],
        rows,
        f"NLL {clean.nll:.4f}, ECE {clean.ece:.4f}, Brier {clean.brier:.4f}{where}",
    )
