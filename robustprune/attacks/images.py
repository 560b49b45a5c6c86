"""Attacks as functions of images that return images, for those who want nothing else."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

# All of the modules now: imported later, one would take the place of the function of its name in the package.
from robustprune.attacks.engine.runner import run_attack
from robustprune.runtime.arrays import Array


class ImageAttack(Protocol):
    """(model, images, labels, *, epsilon=…, …) → images."""

    def __call__(self, model: nn.Module, images: Array, labels: Array, **settings: Any) -> Tensor:
        """Return images (N, …) in [0, 1] within ε; see `run_attack`."""
        ...


def _images_of(name: str) -> ImageAttack:
    """Return the attack called ``name`` as a function that returns the images only."""

    def attack(model: nn.Module, images: Array, labels: Array, **settings: Any) -> Tensor:
        found = run_attack(model, images, labels, name, **settings).adversarial
        return found.to(images.device) if isinstance(images, Tensor) else found

    attack.__name__ = attack.__qualname__ = name.partition("-")[0]
    attack.__doc__ = f"""Return images (N, …) that the attack ``{name}`` made, on the device of ``images``.

    Samples that are misclassified to begin with come back as they are; `run_attack` says which, and whether the model
    could be attacked at all.

    Args:
        model: Maps float images in [0, 1] to logits (N, K).
        images: (N, …), uint8 or float in [0, 1].
        labels: (N,) integers.
        **settings: Those of `run_attack`, such as ``epsilon="8/255"``, and the options of ``{name}``. For the textbook
            version, which returns the last point of all samples: ``early_stop=False, selection="last"``.

    Raises:
        AttackError: As `run_attack`.
    """
    return attack


fgsm, pgd, apgd, fab, square, autoattack = map(_images_of, ("fgsm", "pgd", "apgd-ce", "fab-t", "square", "autoattack"))
