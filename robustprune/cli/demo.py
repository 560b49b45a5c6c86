"""`robustprune demo`: the whole path in a minute."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from robustprune import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import Target, common_options

if TYPE_CHECKING:
    from robustprune.records import Record


@commands.command()
@click.option("--out", type=Target(file_okay=False), default="demo", show_default=True, help="Output folder.")
@click.option("--epochs", type=click.IntRange(min=1), default=20, show_default=True)
@common_options
def demo(out: str, epochs: int, as_json: bool, **options: Any) -> None:
    """Train a dense network, a GraSP ticket and a random one on digits; attack all three; compare."""
    from robustprune.demo import run_demo
    from robustprune.devices import choose_device, limit_threads

    # Images of 8×8 pixels gain nothing from a second thread, and on a busy machine two would wait for each other.
    limit_threads(options["threads"] or 1)
    with terminal.progress_bar() as bar:
        results = run_demo(
            Path(out),
            epochs=epochs,
            seed=options["seed"],
            device=choose_device(options["device"]),
            progress=bar,
            say=terminal.say,
        )
    if as_json:
        terminal.print_json([result.to_dict() for result in results])
        return
    attacks = [f"{entry.name.upper()} {entry.epsilon:.3g}" for entry in results[0].record.attacks]
    terminal.table(
        "ResNet32 on digits: dense, four blocks removed by GraSP, four at random",
        [
            "network",
            ">accuracy",
            *(f">{name}" for name in attacks),
            ">MACs",
            ">param.",
            ">training",
            ">energy",
        ],
        [_demo_row(result.name, result.record) for result in results],
        f"accuracy on {results[0].record.n} test images, clean and attacked with the ε in the heading (L∞, on the "
        f"[0, 1] scale); tickets and records in {out}/",
    )


def _demo_row(name: str, record: Record) -> list[str]:
    model = record.model
    return [
        name,
        terminal.percent(record.clean.accuracy),
        *(terminal.percent(entry.robust_accuracy) if entry.valid else "invalid" for entry in record.attacks),
        f"{model.macs / 1e6:.2f} M",
        f"{model.parameters / 1e3:.0f} k",
        terminal.seconds(model.training["seconds"]),
        terminal.watt_hours(model.training["energy_kwh"]),
    ]
