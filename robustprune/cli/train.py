"""`robustprune train`: train a ticket, or a dense network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import (
    DataOptions,
    NetworkOptions,
    Setup,
    dataset_options,
    network_options,
    opened,
    resume_option,
    setup_options,
    was_given,
)
from robustprune.cli.paths import Source, Target
from robustprune.cli.recipe_options import country_options, recipe_options
from robustprune.runtime.file_kinds import CHECKPOINT, TICKET, FileKind

if TYPE_CHECKING:
    from robustprune.tickets.ticket import Ticket
    from robustprune.training import Recipe


def _checkpoint(out: Path, _options: Mapping[str, Any]) -> list[tuple[Path, FileKind]]:
    return [(out.with_name(f"{out.name}.checkpoint"), CHECKPOINT)]


training_options = recipe_options(
    click.option(
        "--augmentation",
        type=click.Choice(["none", "standard", "augmix", "corruptions"]),
        help="Random shifts, and flips where they keep the label (standard); after these AugMix (augmix), or one of "
        "the "
        "four extra corruptions on half of the images (corruptions).  [default: standard]",
    ),
    click.option(
        "--consistency",
        type=click.FloatRange(0),
        help="Weight of AugMix's Jensen-Shannon loss; the AugMix paper uses 12.  [default: 0]",
    ),
    click.option(
        "--adversarial",
        type=click.Choice(["pgd", "fgsm", "trades"]),
        help="Adversarial training, from a random start. pgd: 10 steps of ε/4. fgsm: one step of 1.25 ε; catastrophic "
        "overfitting is reported. trades: 10 steps of ε/4, β = 6.",
    ),
    click.option("--eps", "epsilon", help="L∞ budget ε of adversarial training.  [default: 8/255]"),
    click.option(
        "--distill-weight",
        "distill",
        type=click.FloatRange(0, 1),
        help="Weight w of distillation: the loss is (1 − w) times that of the recipe, plus w T² times the KL "
        "divergence from the teacher's to the network's softmax at temperature T.",
    ),
    click.option(
        "--distill-temperature", type=click.FloatRange(0, min_open=True), help="T of distillation.  [default: 4]"
    ),
)
DISTILL_WEIGHT = 0.9
"""The weight of a teacher that is named without one."""


_teacher_option = click.option(
    "--distill",
    "teacher",
    type=Source(),
    help="Teacher to learn from besides the labels, such as the dense network a ticket comes from: file of a ticket. "
    f"Its weight is {DISTILL_WEIGHT} unless --distill-weight says otherwise.",
)
_out_option = click.option(
    "--out", type=Target(TICKET, beside=_checkpoint, dir_okay=False), required=True, help="File of the trained ticket."
)


@commands.command(
    examples=[
        "--model ticket.pt --out trained.pt",
        "--model ticket.pt --adversarial pgd --eps 8/255 --distill dense.pt --out robust.pt",
        "--model resnet32 --dataset cifar10 --recipe paper --resume --out dense.pt",
    ],
)
@network_options
@dataset_options
@training_options
@_teacher_option
@country_options
@resume_option
@_out_option
@setup_options
def train(
    network: NetworkOptions,
    dataset: DataOptions,
    recipe: Recipe,
    teacher: str | None,
    country: str | None,
    resume: bool,
    out: str,
    setup: Setup,
    as_json: bool,
) -> None:
    """Train a ticket or a dense network, and write it with its training history.

    The network is that of the last epoch; validation images do not choose it.
    """
    from robustprune.cli.workbench import open_model
    from robustprune.runtime.process_group import join_process_group
    from robustprune.runtime.work import Work
    from robustprune.tickets.ticket import load_ticket
    from robustprune.training import train_to_file

    recipe, device = _with_teacher(recipe, teacher), setup.begin()
    with join_process_group(device) as processes, terminal.progress_bar() as bar:
        ticket, data = opened(processes, dataset, lambda: open_model(network, dataset, seed=setup.seed))
        ticket = train_to_file(
            ticket,
            data,
            out,
            recipe,
            resume=resume,
            on_epoch=_say_epoch,
            work=Work(processes, bar),
            seed=setup.seed,
            device=device,
            country=country,
            teacher=teacher and load_ticket(teacher, model_code=network.code),
        )
    if as_json:
        figures = {name: ticket.training[name] for name in (*_FIGURES, *_SEVERAL) if name in ticket.training}
        history = {"validation_accuracy": ticket.history[-1].get("validation_accuracy"), "history": ticket.history}
        terminal.print_json({"out": out, "sha256": ticket.sha256, **figures, **history})
    else:
        _draw(ticket, network.model, out)


def _with_teacher(recipe: Recipe, teacher: str | None) -> Recipe:
    """Return the recipe with the weight of a teacher, where there is one."""
    from robustprune.training import Recipe

    if teacher is None and was_given("distill_temperature"):
        raise click.UsageError("--distill-temperature softens what a teacher says; add --distill FILE")
    return recipe if teacher is None or was_given("distill") else Recipe.of(recipe, distill=DISTILL_WEIGHT)


_FIGURES = ("epochs", "seconds", "images_per_second", "energy_kwh", "co2_kg", "country", "energy_method")
_SEVERAL = ("processes", "batch_statistics")  # of a training by several processes


def _draw(ticket: Ticket, model: str, out: str) -> None:
    training, accuracy = ticket.training, ticket.history[-1].get("validation_accuracy")
    where = f"ticket in {out}, weights {ticket.sha256[:12]}"
    if "processes" in training:
        where += f"; {training['processes']} processes, batch statistics: {training['batch_statistics']}"
    row = [
        training["epochs"],
        "–" if accuracy is None else terminal.percent(accuracy),
        terminal.seconds(training["seconds"]),
        f"{training['images_per_second']:.0f}",
        terminal.watt_hours(training["energy_kwh"]),
        terminal.grams(training["co2_kg"]),
    ]
    columns = [">epochs", ">validation accuracy", ">time", ">images/s", ">energy", ">CO₂"]
    terminal.table(f"Trained {model}", columns, [row], where)


def _say_epoch(entry: Mapping[str, Any], epochs: int) -> None:
    validation = entry.get("validation_accuracy")
    seen = "" if validation is None else f", validation {terminal.percent(validation)}"
    if "pgd_accuracy" in entry:
        seen += f", under PGD {terminal.percent(entry['pgd_accuracy'])}"
    terminal.say(
        f"epoch {entry['epoch']}/{epochs}: loss {entry['train_loss']:.4f}, "
        f"training {terminal.percent(entry['train_accuracy'])}{seen}, {entry['seconds']:.1f} s"
    )
