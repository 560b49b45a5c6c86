"""Seeded subsets of a labelled set that keep its class proportions.

The random order comes from the raw 64-bit output of numpy's PCG64, whose stream is guaranteed to be the same
on every platform and in every numpy release, so a seed, which is not negative, names the same images everywhere.
Labels are (N,) integers of any values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustprune.errors import DataError

# One stream a purpose: which images are validated on tells nothing about which are kept by a limit.
_SUBSET, _HOLD_OUT = 0, 1


def stratified_indices(labels: Tensor, count: int, seed: int) -> Tensor:
    """Return ``count`` sorted indices with every class in proportion to its size and at least once.

    Seats are given by the Sainte-Laguë method: the image of rank r (from 0) in a class of n comes at
    (r + 1/2) / n, and the ``count`` earliest are taken, the first of each class before all others. So under
    one seed a smaller subset is always part of a larger one.

    Raises:
        DataError: ``count`` is more than there are images or less than there are classes.
    """
    classes = len(torch.unique(labels))
    if count > len(labels):
        raise DataError(f"asked for {count} images, and {len(labels)} are available; ask for at most that")
    if count < classes:
        raise DataError(
            f"asked for {count} images of {classes} classes, which leaves classes without any; "
            f"ask for at least {classes}"
        )
    ranks, sizes, luck = _draw(labels, seed, _SUBSET)
    share = np.where(ranks == 0, -1.0, (ranks + 0.5) / sizes)
    return torch.from_numpy(np.sort(np.lexsort((luck, share))[:count]))


def stratified_per_class(labels: Tensor, per_class: int, seed: int) -> Tensor:
    """Return sorted indices of ``per_class`` images of every class, or of all where a class has fewer.

    Under one seed the images for a smaller number are part of those for a larger one.
    """
    ranks, _, _ = _draw(labels, seed, _SUBSET)
    return torch.from_numpy(np.flatnonzero(ranks < per_class))


def hold_out(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return sorted indices (kept, held out): a stratified part held out, every class keeping an image.

    The fraction is that of the part to hold out, in (0, 0.5], rounded to whole images; at least one.

    Raises:
        DataError: No class has a second image, so nothing can be held out.
    """
    ranks, sizes, luck = _draw(labels, seed, _HOLD_OUT)
    last_of_class = ranks == sizes - 1
    available = int((~last_of_class).sum())
    if available == 0:
        raise DataError(
            f"no validation images can be held out of {len(labels)} training images with one image a class; "
            "use a validation fraction of 0"
        )
    count = min(max(1, round(fraction * len(labels))), available)
    share = np.where(last_of_class, np.inf, (ranks + 0.5) / sizes)
    held = np.sort(np.lexsort((luck, share))[:count])
    return torch.from_numpy(np.setdiff1d(np.arange(len(labels)), held)), torch.from_numpy(held)


def _draw(labels: Tensor, seed: int, purpose: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return, for each image (N,), its place in the random order of its class, the size of that, and its luck.

    Luck is a random order of the classes, to break ties between them.
    """
    _, classes, counts = np.unique(labels.cpu().numpy(), return_inverse=True, return_counts=True)
    bits = np.random.PCG64(np.random.SeedSequence([seed, purpose]))
    order = np.lexsort((bits.random_raw(len(classes)), classes))  # by class, at random within it
    ranks = np.empty(len(classes), dtype=np.int64)
    ranks[order] = np.arange(len(classes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks, counts[classes], bits.random_raw(len(counts))[classes]
