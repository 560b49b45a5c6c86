"""Asking about points that differ within a patch from those kept, without a whole pass of the network for each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustprune.attacks.problem import AttackProblem
from robustprune.inference import TOLERANCE, Packed, Patch, Windowed, logit_gap, run_model
from robustprune.randomness import seeded_generator

MOST_BYTES = 2**30
Look = Callable[[Tensor, Tensor], Tensor]


class Nearby:
    """What the first layers of the network say of the points that an attack keeps.

    That depends on these points alone, not on the way there: an interrupted attack goes on as it would have.
    """

    def __init__(self, problem: AttackProblem) -> None:
        """Begin with nothing; the network is looked at when it is first needed."""
        self._problem = problem
        self._windowed: Windowed | None = None
        self._is_tried = self._has_looked = False
        self._slots: Tensor | None = None  # (N,) where the maps of each sample are

    def look(self, rows: Tensor, kept: Tensor, patch: Patch) -> Look | None:
        """Return what to ask with about points that differ within a patch from those kept of ``rows`` (n,).

        None where the model has to be run: the patch is large, or the network is not of such layers.
        """
        if not self._is_tried:
            self._windowed, self._is_tried = _taken_apart(self._problem, rows), True
        windowed = self._windowed
        self._has_looked = windowed is not None and windowed.is_worth(patch)
        if windowed is None or not self._has_looked:
            return None
        if self._slots is None:
            self._slots = torch.zeros_like(self._problem.labels)
            self._slots[rows] = torch.arange(len(rows), device=rows.device)
            windowed.make_room(len(rows))
            self._see(windowed, self._slots[rows], kept)
        slots = self._slots
        return lambda where, points: windowed.look(points, slots[where], patch)

    def keep(self, rows: Tensor, points: Tensor) -> None:
        """Take note that other points (n, C, H, W) are kept of some samples: some of those asked about last."""
        windowed, slots = self._windowed, self._slots
        if windowed is None or slots is None:
            return
        if self._has_looked:
            windowed.keep(slots[rows])
        else:
            self._see(windowed, slots[rows], points)

    def _see(self, windowed: Windowed, slots: Tensor, points: Tensor) -> None:
        everything = torch.arange(len(slots), device=slots.device)
        self._problem.oracle.batches.run(everything, lambda part: windowed.see(points[part], slots[part]))


def _taken_apart(problem: AttackProblem, rows: Tensor) -> Windowed | None:
    """Return the network of a problem taken apart, if it can be, comes out the same, and there is room for ``rows``."""
    if problem.images.ndim != 4 or problem.oracle.draws > 1 or len(rows) == 0:
        return None
    try:
        network = problem.model.network if isinstance(problem.model, Packed) else problem.model
        windowed = Windowed(network, problem.images[rows[:1]])
        gap = _gap(problem.model, windowed, problem.images[rows[:4]])
    except Exception:  # tracing runs the network's own code, which may do anything
        return None
    has_room = windowed.bytes_per_image * len(rows) <= MOST_BYTES
    return windowed if gap <= TOLERANCE and has_room else None


def _gap(model: nn.Module, windowed: Windowed, images: Tensor) -> float:
    """Return how far logits at changed images are from the model's, as a share of the largest."""
    height, width = images.shape[2:]
    patch = (slice(height // 3, height // 2 + 1), slice(0, width // 3 + 1))  # at an edge, as padding matters
    changed = images.clone()
    drawn = torch.rand(changed[:, :, patch[0], patch[1]].shape, generator=seeded_generator("nearby"))
    changed[:, :, patch[0], patch[1]] = drawn.round(decimals=1).to(images.device)  # zeros and ones among others
    slots = torch.arange(len(images), device=images.device)
    windowed.make_room(len(images))
    with torch.no_grad():
        windowed.see(images, slots)
        return logit_gap(run_model(model, changed), windowed.look(changed, slots, patch))
