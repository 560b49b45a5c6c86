"""What is attacked: samples that are checked before anything is computed, and what earlier attacks know of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import index

import torch
from torch import Tensor

from robustprune.attacks.engine.attack_result import AttackResult
from robustprune.attacks.requests import Attack
from robustprune.errors import AttackError, EvaluationError
from robustprune.models import to_unit_range
from robustprune.runtime.arrays import Array, to_tensor

TOGETHER = 64
"""Samples that attacks of other packages are handed at once."""


@dataclass(frozen=True)
class Samples:
    """What is attacked, on the CPU or wherever the caller has it.

    Attributes:
        images: (N, …), uint8 or float in [0, 1].
        labels: (N,) int64.
        ids: N integers that key the random draws.
        targets: (N,) int64, the classes to reach, if the attack is targeted.
        previous_points: (N, …) points of an earlier attack; None if there was none.
        previously_broken: (N,) bool, which of them succeeded.
    """

    images: Tensor
    labels: Tensor
    ids: list[int]
    targets: Tensor | None = None
    previous_points: Tensor | None = None
    previously_broken: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.labels)

    def part(self, where: slice | Tensor) -> Samples:
        """Return some of the samples: a run of them, or those at some places (n,), in that order."""
        places = torch.arange(len(self))[where]

        def chosen(values: Tensor) -> Tensor:
            return values[where if isinstance(where, slice) else where.to(values.device)]

        return Samples(
            chosen(self.images),
            chosen(self.labels),
            [self.ids[place] for place in places.tolist()],
            None if self.targets is None else chosen(self.targets),
            None if self.previous_points is None else chosen(self.previous_points),
            self.previously_broken if self.previous_points is None else chosen(self.previously_broken),
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
    try:
        ids = list(range(len(images))) if sample_ids is None else [index(each) for each in sample_ids]
    except TypeError as error:
        raise AttackError(f"sample ids are one integer per image: {error}") from error
    if len(ids) != len(images):
        raise AttackError(f"expected {len(images)} sample ids, one per image, got {len(ids)}")
    if images.dtype != torch.uint8:
        try:
            low, high = (float(bound) for bound in to_unit_range(images).aminmax())
        except EvaluationError as error:
            raise AttackError(str(error)) from error
        # NaN fails both comparisons; aminmax hands it on.
        if not (low >= 0 and high <= 1):
            raise AttackError(
                f"images must lie in [0, 1], these run from {low:g} to {high:g}, where no attack can be judged. "
                f"Divide by 255 if they are on that scale, and put normalization inside the model"
            )
    return Samples(images, labels, ids, targets)


def _as_classes(what: str, classes: Tensor, n: int) -> Tensor:
    if classes.shape != (n,) or classes.is_floating_point() or classes.dtype == torch.bool:
        raise AttackError(
            f"expected {n} integer {what}, one per image, got {classes.dtype} of shape {tuple(classes.shape)}"
        )
    return classes.long()


def with_previous(samples: Samples, earlier: AttackResult | None, request: Attack) -> Samples:
    """Return the samples with the points of an earlier attack.

    Raises:
        AttackError: It was on other samples, for another goal, in another norm, or had the larger budget.
    """
    if earlier is None:
        return samples
    was, now = (
        [None if classes is None else classes.tolist() for classes in (each.labels, each.targets)]
        for each in (earlier, samples)
    )
    if was != now or earlier.adversarial.shape != samples.images.shape:
        raise AttackError("the result to previous over is that of other samples or targets")
    if earlier.norm != request.norm or earlier.epsilon > request.epsilon:
        raise AttackError(
            f"the result to previous over has the budget {earlier.norm} {earlier.epsilon:g}, which is not within "
            f"{request.norm} {request.epsilon:g}"
        )
    # Another model, or other images, would not be broken by these points.
    return replace(samples, previous_points=earlier.adversarial, previously_broken=earlier.broken)


def merge_previous(result: AttackResult, earlier: AttackResult | None) -> AttackResult:
    """Return the result with the earlier one's account of what that one broke."""
    if earlier is None:
        return result
    is_earlier = earlier.broken & result.broken & (result.broken_at_step == 0)
    broken_by = [
        before if was else now
        for was, before, now in zip(is_earlier.tolist(), earlier.broken_by, result.broken_by, strict=True)
    ]
    steps = torch.where(is_earlier, earlier.broken_at_step, result.broken_at_step)
    queries = result.queries + earlier.queries
    return replace(result, broken_by=broken_by, broken_at_step=steps, queries=queries)
