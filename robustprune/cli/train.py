"""`robustprune train`: train a ticket, or a dense network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import (
    common_options,
    data_options,
    joined,
    model_options,
    open_named,
    opened,
    recipe_options,
    stack,
)
from robustprune.cli.paths import Target
from robustprune.runtime.kinds import CHECKPOINT, TICKET, Kind

if TYPE_CHECKING:
    from robustprune.training import Recipe


def _checkpoint(out: Path, _options: Mapping[str, Any]) -> list[tuple[Path, Kind]]:
    return [(out.with_name(f"{out.name}.checkpoint"), CHECKPOINT)]


training_options = stack(
    click.option(
        "--defence",
        "--augment",
        "defence",
        type=click.Choice(["augmix", "corruptions"]),
        help="Against corruptions: AugMix, or the four extra corruptions on half of the images. --augment is the same.",
    ),
    click.option(
        "--consistency", type=click.FloatRange(0), help="augmix: weight of its loss over three views; paper: 12."
    ),
    click.option(
        "--adversarial",
        type=click.Choice(["pgd", "fgsm", "trades"]),
        help="Train on images attacked at each step; fgsm is the cheapest, and watched for overfitting to itself.",
    ),
    click.option("--eps", "epsilon", help="Budget of adversarial training, 8/255 by default."),
    click.option("--resume", is_flag=True, help="Continue an interrupted run."),
    click.option(
        "--out",
        type=Target(TICKET, beside=_checkpoint, dir_okay=False),
        required=True,
        help="File of the trained ticket.",
    ),
)


@commands.command()
@model_options
@data_options
@recipe_options
@training_options
@common_options
def train(out: str, resume: bool, as_json: bool, **options: Any) -> None:
    """Train a ticket, or a dense network, and write it with its history."""
    from robustprune.runtime.work import Work, choose_device
    from robustprune.training import train_to_file

    recipe, device, model = _recipe(options), choose_device(options["device"]), options["model"]
    country = None if options["no_energy"] else options["country"]
    with joined(options["device"]) as processes, terminal.progress_bar() as bar:
        ticket, data = opened(processes, options, lambda: open_named(options))
        ticket = train_to_file(
            ticket,
            data,
            out,
            recipe,
            resume=resume,
            on_epoch=_say_epoch,
            work=Work(processes, bar),
            seed=options["seed"],
            device=device,
            country=country,
        )
    summary = {
        "out": out,
        "sha256": ticket.sha256,
        **{name: ticket.training[name] for name in _TRAINING_FIGURES},
        **{name: ticket.training[name] for name in _SEVERAL if name in ticket.training},
        "validation_accuracy": ticket.history[-1].get("validation_accuracy"),
        "history": ticket.history,
    }
    if as_json:
        terminal.print_json(summary)
    else:
        _draw(f"Trained {model}", summary)


def _recipe(options: Mapping[str, Any]) -> Recipe:
    from robustprune.training import Recipe

    if options["epsilon"] is not None and options["adversarial"] is None:
        raise click.UsageError("--eps is the budget of adversarial training; add --adversarial pgd, fgsm or trades")
    return Recipe.of(options["recipe"], **{name: options[name] for name in _OVERRIDES})


def _draw(title: str, summary: Mapping[str, Any]) -> None:
    accuracy = summary["validation_accuracy"]
    terminal.table(
        title,
        [">epochs", ">validation accuracy", ">time", ">images/s", ">energy", ">CO₂"],
        [
            [
                summary["epochs"],
                "–" if accuracy is None else terminal.percent(accuracy),
                terminal.seconds(summary["seconds"]),
                f"{summary['images_per_second']:.0f}",
                terminal.watt_hours(summary["energy_kwh"]),
                terminal.grams(summary["co2_kg"]),
            ]
        ],
        f"ticket in {summary['out']}, weights {summary['sha256'][:12]}{_who(summary)}",
    )


_OVERRIDES = ("epochs", "batch_size", "learning_rate", "defence", "consistency", "adversarial", "epsilon")
_TRAINING_FIGURES = (
    "epochs",
    "seconds",
    "images_per_second",
    "energy_kwh",
    "co2_kg",
    "country",
    "energy_method",
)
_SEVERAL = ("processes", "batch_statistics")
"""What is on record of a training by several processes."""


def _who(training: Mapping[str, Any]) -> str:
    if "processes" not in training:
        return ""
    return f"; {training['processes']} processes, batch statistics: {training['batch_statistics']}"


def _say_epoch(entry: Mapping[str, Any], epochs: int) -> None:
    validation = entry.get("validation_accuracy")
    seen = "" if validation is None else f", validation {terminal.percent(validation)}"
    if "pgd_accuracy" in entry:
        seen += f", under PGD {terminal.percent(entry['pgd_accuracy'])}"
    terminal.say(
        f"epoch {entry['epoch']}/{epochs}: loss {entry['train_loss']:.4f}, "
        f"training {terminal.percent(entry['train_accuracy'])}{seen}, {entry['seconds']:.1f} s"
    )
