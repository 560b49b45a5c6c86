"""Augmentations against corruptions: AugMix with its consistency loss, and corruptions that are not tested on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robustprune.corruptions import EXTRAS, corrupt
from robustprune.data.augmentation import augmix
from robustprune.runtime.randomness import Draws, as_draws, derive_seed
from robustprune.training.recipes import Recipe

_CORRUPTED_SHARE, _HARDEST = 0.5, 3


def harden(
    images: Tensor, recipe: Recipe, generator: torch.Generator | Draws, *, seed: int, epoch: int, indices: Tensor
) -> list[Tensor]:
    """Return the views of a batch that are trained on: one, or with a consistency loss the images and two mixtures.

    Args:
        images: uint8 (N, C, H, W), flipped and shifted.
        recipe: Says what is done.
        generator: Of the epoch.
        seed: Of training.
        epoch: From 0.
        indices: (N,) which images these are.
    """
    if recipe.defence == "augmix":
        if recipe.consistency > 0:
            return [images, augmix(images, generator), augmix(images, generator)]
        return [augmix(images, generator)]
    if recipe.defence == "corruptions":
        return [corrupt_some(images, generator, derive_seed(seed, "corruptions", epoch), indices)]
    return [images]


def corrupt_some(images: Tensor, generator: torch.Generator | Draws, seed: int, indices: Tensor) -> Tensor:
    """Return the images, half of them under one of the four extra corruptions at severity 1 to 3.

    The fifteen of the headline figure are left for the test: to have trained on them would be to have seen it.
    """
    drawn = as_draws(generator).rand(3, len(images), along=1).cpu()
    kind, severity = (drawn[1] * len(EXTRAS)).long(), (drawn[2] * _HARDEST).long() + 1
    result = images.clone()
    for number, name in enumerate(EXTRAS):
        for level in range(1, _HARDEST + 1):
            chosen = ((drawn[0] < _CORRUPTED_SHARE) & (kind == number) & (severity == level)).nonzero()[:, 0]
            if len(chosen):
                at = chosen.to(images.device)
                result[at] = corrupt(images[at], name, level, seed=seed, sample_ids=indices.cpu()[chosen])
    return result


def consistency_loss(logits: list[Tensor]) -> Tensor:
    """Return the Jensen-Shannon divergence of the predictions for the views of a batch, in nats (AugMix, eq. 1 and 2).

    Args:
        logits: (N, K) for each view.
    """
    shares = [row.softmax(dim=1) for row in logits]
    # As in the published code: the mean is kept off zero, whose logarithm is not finite.
    mean = torch.stack(shares).mean(dim=0).clamp(1e-7, 1).log()
    return sum(F.kl_div(mean, share, reduction="batchmean") for share in shares) / len(shares)  # type: ignore[return-value]
