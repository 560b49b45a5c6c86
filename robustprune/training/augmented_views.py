"""Augmentation beyond flips and shifts: AugMix with its consistency loss, or corruptions of no headline figure.

AugMix is Hendrycks et al. 2020 (arXiv:1912.02781).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from robustprune.corruptions import EXTRAS, corrupt
from robustprune.data.augmentation import augmix
from robustprune.runtime.randomness import BatchGenerator, as_batch_generator, derive_seed
from robustprune.training.recipes import Recipe

_CORRUPTED_SHARE, _HARDEST = 0.5, 3


def augmented_views(
    images: Tensor, recipe: Recipe, generator: Generator | BatchGenerator, *, seed: int, epoch: int, indices: Tensor
) -> list[Tensor]:
    """Return the views of a batch that are trained on: one, or with a consistency loss the images and two mixtures.

    Images are uint8 (N, C, H, W), flipped and shifted; ``indices`` (N,) say which they are, ``epoch`` counts from 0.
    """
    if recipe.augmentation == "augmix":
        if recipe.consistency > 0:
            return [images, augmix(images, generator), augmix(images, generator)]
        return [augmix(images, generator)]
    if recipe.augmentation == "corruptions":
        return [corrupt_some(images, generator, derive_seed(seed, "corruptions", epoch), indices)]
    return [images]


def corrupt_some(images: Tensor, generator: Generator | BatchGenerator, seed: int, indices: Tensor) -> Tensor:
    """Return the images, half of them under one of the four extra corruptions at severity 1 to 3.

    The fifteen of the headline figure are left for the test: to have trained on them would be to have seen it.
    """
    drawn = as_batch_generator(generator).rand(3, len(images), along=1).cpu()
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
    """Return the Jensen-Shannon divergence of predictions (N, K) for views of a batch, in nats (AugMix, eq. 1, 2)."""
    shares = [row.softmax(dim=1) for row in logits]
    # As in the published code: the mean is kept off zero, whose logarithm is not finite.
    mean = torch.stack(shares).mean(dim=0).clamp(1e-7, 1).log()
    return sum(F.kl_div(mean, share, reduction="batchmean") for share in shares) / len(shares)  # type: ignore[return-value]
