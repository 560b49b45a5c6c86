"""Training recipes: a few numbers and a learning-rate schedule without state.

A schedule is a pure function of how much of training is done, so a run picked up at any epoch, or a ticket
rewound to it, continues exactly where the schedule was.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from robustprune.attacks.requests import parse_epsilon
from robustprune.errors import AttackError, TrainingError
from robustprune.registry import suggest


def _as_epsilon(value: Any) -> float:
    try:
        return parse_epsilon(value)
    except AttackError as error:
        raise ValueError(str(error)) from error


class Recipe(BaseModel):
    """How to train: SGD with Nesterov momentum under a schedule.

    Attributes:
        name: The recipe it was made from.
        epochs: Passes over the training images.
        batch_size: Images per step; an incomplete last batch is left out of its epoch.
        learning_rate: The highest of the schedule.
        momentum: Of SGD, Nesterov's kind.
        weight_decay: L2 penalty on all parameters.
        label_smoothing: Mass spread over all classes, in [0, 1).
        schedule: "one-cycle" (Smith and Topin 2018, arXiv:1708.07120: up for the first quarter, then down to
            nearly 0, both along cosines) or "step" (÷10 at half and at three quarters).
        augment: Random shift by an eighth of the side, and flips where they keep the label.
        defence: Beyond that "augmix" (Hendrycks et al. 2020, arXiv:1912.02781), or "corruptions": half of the images
            under one of the four that no headline figure counts; "none" by default.
        consistency: Weight of AugMix's Jensen-Shannon loss over the images and two mixtures of each, at three times
            the cost; the paper has 12.
        adversarial: "pgd", "fgsm" or "trades": train on images attacked at each step; "none" by default.
        epsilon: L∞ budget of that attack, on the [0, 1] scale: a number, or a fraction such as ``"8/255"``.
        adversarial_steps: Its steps; FGSM has one.
        trades_beta: Weight of TRADES' second term.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    schedule: Literal["one-cycle", "step"] = "one-cycle"
    augment: bool = True
    defence: Literal["none", "augmix", "corruptions"] = "none"
    consistency: Annotated[float, Field(ge=0)] = 0.0
    adversarial: Literal["none", "pgd", "fgsm", "trades"] = "none"
    epsilon: Annotated[float, BeforeValidator(_as_epsilon)] = 8 / 255
    adversarial_steps: Annotated[int, Field(ge=1)] = 10
    trades_beta: Annotated[float, Field(ge=0)] = 6.0

    @model_validator(mode="after")
    def _consistency_needs_mixtures(self) -> Recipe:
        if self.consistency > 0 and self.defence != "augmix":
            raise ValueError("a consistency loss compares mixtures of augmix, which this recipe has not")
        if self.consistency > 0 and self.adversarial != "none":
            raise ValueError("a consistency loss and adversarial training do not go together; choose one")
        return self

    def learning_rate_at(self, progress: float) -> float:
        """Return the learning rate once the share ``progress`` in [0, 1) of all steps is done."""
        if self.schedule == "step":
            return float(self.learning_rate * 0.1 ** ((progress >= 0.5) + (progress >= 0.75)))
        start, end, warm_up = self.learning_rate / 25, self.learning_rate / 10_000, 0.25
        if progress < warm_up:
            return _cosine(start, self.learning_rate, progress / warm_up)
        return _cosine(self.learning_rate, end, (progress - warm_up) / (1 - warm_up))


RECIPES = {
    "quick": Recipe(
        name="quick", epochs=20, batch_size=128, learning_rate=0.1, label_smoothing=0.1, schedule="one-cycle"
    ),
    # The paper states no recipe; these are the figures of the same group's earlier published code.
    "paper": Recipe(name="paper", epochs=200, batch_size=128, learning_rate=0.01, weight_decay=5e-4, schedule="step"),
}


def make_recipe(recipe: str | Recipe = "quick", **overrides: float | int | bool | str | Fraction | None) -> Recipe:
    """Return a recipe, by name or as it is, with the given fields replaced; None leaves one as it is.

    Raises:
        TrainingError: No recipe of that name, or a value it cannot take.
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            known = ", ".join(RECIPES)
            raise TrainingError(f"there is no recipe {recipe!r}.{suggest(recipe, RECIPES)} Known: {known}.")
        recipe = RECIPES[recipe]
    chosen = {field: value for field, value in overrides.items() if value is not None}
    try:
        return Recipe.model_validate(recipe.model_dump() | chosen)
    except ValidationError as error:
        problem = error.errors()[0]
        # What is wrong with fields together has no place of its own, and its input is the whole recipe.
        where = f"{'.'.join(map(str, problem['loc']))}={problem['input']!r}: " if problem["loc"] else ""
        message = problem["msg"].removeprefix("Value error, ")
        raise TrainingError(f"recipe {recipe.name}: {where}{message[:1].lower()}{message[1:]}") from error


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
