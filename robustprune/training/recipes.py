"""Training recipes: a few numbers and a learning-rate schedule without state.

A schedule is a pure function of how much of training is done, so a run picked up at any epoch, or a ticket
rewound to it, continues exactly where the schedule was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from robustprune.attacks.requests import LinfEpsilon
from robustprune.errors import RobustPruneError, TrainingError
from robustprune.registry import suggest
from robustprune.runtime.requests import Request

# The paper states no recipe; "paper" has the figures of the same group's earlier published code.
RECIPES: dict[str, dict[str, Any]] = {
    "quick": {
        "epochs": 20,
        "batch_size": 128,
        "learning_rate": 0.1,
        "label_smoothing": 0.1,
        "schedule": "one-cycle",
    },
    "paper": {"epochs": 200, "batch_size": 128, "learning_rate": 0.01, "weight_decay": 5e-4, "schedule": "step"},
}


_LATER = ("precision", "compile", "distill", "distill_temperature")


class Recipe(Request):
    """How to train, by SGD with Nesterov momentum under a schedule: ``Recipe("quick", epochs=8)``.

    What is not given, or is None, is as the recipe of that name has it.

    Attributes:
        name: ``quick`` or ``paper``; or one of your own, with its epochs, batch size and learning rate.
        epochs: Passes over the training images.
        batch_size: Images per step; an incomplete last batch is left out of its epoch.
        learning_rate: The highest of the schedule.
        momentum: Of SGD, Nesterov's kind.
        weight_decay: L2 penalty on all parameters.
        label_smoothing: Mass spread over all classes, in [0, 1).
        schedule: "one-cycle" (Smith and Topin 2018, arXiv:1708.07120: up for the first quarter, then down to
            nearly 0, both along cosines) or "step" (÷10 at half and at three quarters).
        augmentation: "standard": random shift by an eighth of the side, and flips where they keep the label; after
            these "augmix" (Hendrycks et al. 2020, arXiv:1912.02781), or "corruptions": half of the images under one of
            the four that no headline figure counts; or "none".
        consistency: Weight of AugMix's Jensen-Shannon loss over the images and two mixtures of each, at three times
            the cost; the paper has 12.
        adversarial: "pgd", "fgsm" or "trades": train on images attacked at each step; "none" by default.
        epsilon: L∞ budget of that attack, on the [0, 1] scale: a number, or a fraction such as ``"8/255"``.
        adversarial_steps: Its steps; FGSM has one.
        trades_beta: Weight of TRADES' second term.
        distill: Weight of the loss against the logits of a teacher, in [0, 1]; 0 takes none. See
            :mod:`robustprune.training.distillation`.
        distill_temperature: What both networks' logits are divided by there.
        precision: What training passes compute in: "fp32", "bf16" or "fp16", the latter with scaled losses. In the 16
            bits of these two, weights, losses, attacks and validation stay in single precision all the same. With
            "fp32" a network with weights of another type computes in that one.
        compile: Run training passes by ``torch.compile``. Results differ in their last bits, therefore it stands here.
    """

    FIRST: ClassVar[str | None] = "name"
    ERROR: ClassVar[type[RobustPruneError]] = TrainingError

    name: str = "quick"
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    schedule: Literal["one-cycle", "step"] = "one-cycle"
    augmentation: Literal["none", "standard", "augmix", "corruptions"] = "standard"
    consistency: Annotated[float, Field(ge=0)] = 0.0
    adversarial: Literal["none", "pgd", "fgsm", "trades"] = "none"
    epsilon: LinfEpsilon = 8 / 255
    adversarial_steps: Annotated[int, Field(ge=1)] = 10
    trades_beta: Annotated[float, Field(ge=0)] = 6.0
    distill: Annotated[float, Field(ge=0, le=1)] = 0.0
    distill_temperature: Annotated[float, Field(gt=0)] = 4.0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False

    @classmethod
    def of(cls, value: Any, **others: Any) -> Self:
        """Return a recipe as it is, by name, or from a mapping; with other fields replaced by those that are not None.

        Raises:
            TrainingError: No recipe of that name, or a value it cannot take.
        """
        return super().of(value, **{field: each for field, each in others.items() if each is not None})

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, value: Any) -> Any:
        if isinstance(value, cls):
            return value
        given = dict(value) if isinstance(value, Mapping) else {"name": value}
        given = {field: each for field, each in given.items() if each is not None}
        name = str(given.get("name", "quick"))
        if name not in RECIPES and not given.keys() >= {"epochs", "batch_size", "learning_rate"}:
            raise ValueError(f"there is no recipe {name!r}.{suggest(name, RECIPES)} Known: {', '.join(RECIPES)}.")
        return RECIPES.get(name, {}) | given

    @model_validator(mode="after")
    def _consistency_needs_mixtures(self) -> Self:
        if self.consistency > 0 and self.augmentation != "augmix":
            raise ValueError("a consistency loss compares mixtures of augmix, which this recipe has not")
        if self.consistency > 0 and self.adversarial != "none":
            raise ValueError("a consistency loss and adversarial training do not go together; choose one")
        return self

    @model_validator(mode="after")
    def _a_teacher_replaces_other_terms(self) -> Self:
        if self.distill > 0 and (self.adversarial == "trades" or self.consistency > 0):
            other = "TRADES" if self.adversarial == "trades" else "a consistency loss"
            raise ValueError(f"distillation and {other} do not go together; choose one, or --adversarial pgd")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_later_fields(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # At its default, a field that came later leaves addresses and records as they were without it. That default
        # stays, or an address would come to mean something else.
        later = {name: type(self).model_fields[name].default for name in _LATER}
        return {name: each for name, each in write(self).items() if name not in later or each != later[name]}

    def learning_rate_at(self, progress: float) -> float:
        """Return the learning rate once the share ``progress`` in [0, 1) of all steps is done."""
        if self.schedule == "step":
            return float(self.learning_rate * 0.1 ** ((progress >= 0.5) + (progress >= 0.75)))
        start, end, warm_up = self.learning_rate / 25, self.learning_rate / 10_000, 0.25
        if progress < warm_up:
            return _cosine(start, self.learning_rate, progress / warm_up)
        return _cosine(self.learning_rate, end, (progress - warm_up) / (1 - warm_up))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
