"""What is asked of an attack, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustprune.errors import AttackError, EvaluationError
from robustprune.models import to_unit_range
from robustprune.runtime.arrays import Array, to_tensor

TOGETHER = 64
"""Samples that attacks of other packages are handed at once."""


def at_least_one(name: str, value: Any) -> int:
    """Return a count as an int, or raise an `AttackError` that names it."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise AttackError(f"{name} must be an integer of at least 1, got {value!r}")
    return int(value)


@dataclass(frozen=True)
class Samples:
    """What is attacked, on the CPU or wherever the caller has it.

    Attributes:
        images: (N, …), uint8 or float in [0, 1].
        labels: (N,) int64.
        ids: N integers that key the random draws.
        targets: (N,) int64, the classes to reach, if the attack is targeted.
        carried: (N, …) points of an earlier attack; None if there was none.
        carried_broken: (N,) bool, which of them succeeded.
    """

    images: Tensor
    labels: Tensor
    ids: list[int]
    targets: Tensor | None = None
    carried: Tensor | None = None
    carried_broken: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.labels)

    def part(self, where: slice | Tensor) -> Samples:
        """Return some of the samples: a run of them, or those at some places (n,), in that order."""
        places = range(len(self))[where] if isinstance(where, slice) else where.tolist()

        def chosen(values: Tensor) -> Tensor:
            return values[where if isinstance(where, slice) else where.to(values.device)]

        return Samples(
            chosen(self.images),
            chosen(self.labels),
            [self.ids[place] for place in places],
            None if self.targets is None else chosen(self.targets),
            None if self.carried is None else chosen(self.carried),
            self.carried_broken if self.carried is None else chosen(self.carried_broken),
        )


def check_samples(
    images: Array,
    labels: Array,
    sample_ids: Sequence[int] | Tensor | None,
    targets: Array | None = None,
) -> Samples:
    """Return the samples, or raise an `AttackError` on images, labels, ids or targets that do not fit together."""
    images, labels = to_tensor(images, "images", AttackError).detach(), to_tensor(labels, "labels", AttackError)
    if images.ndim < 2 or len(images) == 0:
        raise AttackError(f"expected a batch of images (N, …) with N ≥ 1, got shape {tuple(images.shape)}")
    labels = _as_classes("labels", labels, len(images))
    if targets is not None:
        targets = _as_classes("targets", to_tensor(targets, "targets", AttackError), len(images))
        same = int((targets.cpu() == labels.cpu()).sum())
        if same:
            raise AttackError(f"{same} targets are the samples' own labels; a target is the class to be mistaken for")
    ids = as_ids(sample_ids, len(images))
    _check_range(images)
    return Samples(images, labels, ids, targets)


def as_ids(sample_ids: Sequence[int] | Tensor | None, n: int) -> list[int]:
    """Return n sample ids as numbers, 0…n−1 for None, or raise an `AttackError`."""
    try:
        ids = list(range(n)) if sample_ids is None else [index(each) for each in sample_ids]
    except TypeError as error:
        raise AttackError(f"sample ids are one integer per image: {error}") from error
    if len(ids) != n:
        raise AttackError(f"expected {n} sample ids, one per image, got {len(ids)}")
    return ids


def _as_classes(what: str, classes: Tensor, n: int) -> Tensor:
    if classes.shape != (n,) or classes.is_floating_point() or classes.dtype == torch.bool:
        raise AttackError(
            f"expected {n} integer {what}, one per image, got {classes.dtype} of shape {tuple(classes.shape)}"
        )
    return classes.long()


def _check_range(images: Tensor) -> None:
    if images.dtype == torch.uint8:
        return
    try:
        values = to_unit_range(images)
    except EvaluationError as error:
        raise AttackError(str(error)) from error
    low, high = (float(bound) for bound in values.aminmax())
    # NaN fails both comparisons; aminmax hands it on.
    if not (low >= 0 and high <= 1):
        raise AttackError(
            f"images must lie in [0, 1], these run from {low:g} to {high:g}, where no attack can be judged. "
            f"Divide by 255 if they are on that scale, and put normalization inside the model"
        )
