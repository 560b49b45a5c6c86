"""Options of commands that train: the recipe, and the energy that is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from robustprune.cli.options import gathered

if TYPE_CHECKING:
    from robustprune.training import Recipe


def _recipe(recipe: str, *, adversarial: str | None = None, epsilon: str | None = None, **given: Any) -> Recipe:
    from robustprune.training import Recipe

    if epsilon is not None and adversarial is None:
        raise click.UsageError("--eps is the budget of adversarial training; add --adversarial pgd, fgsm or trades")
    return Recipe.of(recipe, adversarial=adversarial, epsilon=epsilon, **given)


def recipe_options(*further: Callable[[Any], Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds the options of a recipe, for ``recipe: Recipe``; further ones are fields of it."""
    return gathered(
        "recipe",
        _recipe,
        click.option(
            "--recipe",
            type=click.Choice(["quick", "paper"]),
            default="quick",
            help="Training recipe, by SGD. quick: 20 epochs, one-cycle learning rate. paper: 200 epochs, learning rate "
            "divided by 10 at half and at three quarters. The options below replace parts of it.",
        ),
        click.option(
            "--epochs", type=click.IntRange(min=1), help="Passes over the training images.  [default: the recipe's]"
        ),
        click.option("--batch-size", type=click.IntRange(min=2), help="Images per step.  [default: 128]"),
        click.option(
            "--learning-rate",
            type=click.FloatRange(0, min_open=True),
            help="Peak learning rate of the schedule.  [default: 0.1 for quick, 0.01 for paper]",
        ),
        click.option(
            "--precision",
            type=click.Choice(["fp32", "bf16", "fp16"]),
            help="Precision of training passes; weights, attacks and evaluation stay in fp32.  [default: fp32]",
        ),
        click.option(
            "--compile",
            is_flag=True,
            help="Compile training passes by torch.compile; worthwhile for long trainings on GPUs.",
        ),
        *further,
        panel="Training",
    )


country_options = gathered(
    "country",
    lambda country, no_energy: None if no_energy else country,
    click.option(
        "--country",
        default="USA",
        help="Country whose grid supplies the power, as ISO 3166-1 alpha-3 code; CO₂ is estimated from it.",
    ),
    click.option("--no-energy", is_flag=True, help="Measure neither energy nor CO₂."),
    panel="Energy",
)
"""For ``country: str | None``, of which None measures no energy."""
