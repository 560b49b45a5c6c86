"""Asking about points that differ within a patch from those kept, without a whole pass of the network for each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustprune.attacks.engine.problem import AttackProblem
from robustprune.inference import TOLERANCE, Packed, Patch, Windowed
from robustprune.models import logit_gap, run_model
from robustprune.runtime.randomness import seeded_generator

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
        self._is_tried = self._is_exact = self._has_looked = False
        self._slots: Tensor | None = None  # (N,) where the maps of each sample are

    def look(self, rows: Tensor, kept: Tensor, patch: Patch) -> Look | None:
        """Return what to ask with about points that differ within a patch from those kept of ``rows`` (n,).

        None where the model has to be run: the patch is large, or the network is not of such layers.
        """
        if not self._is_tried:
            self._windowed, self._is_exact = _taken_apart(self._problem, rows)
            self._is_tried = True
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
        if self._has_looked and self._is_exact:
            windowed.keep(slots[rows])
        else:
            windowed.keep(slots[:0])
            self._see(windowed, slots[rows], points)

    def _see(self, windowed: Windowed, slots: Tensor, points: Tensor) -> None:
        everything = torch.arange(len(slots), device=slots.device)
        self._problem.oracle.batches.run(everything, lambda part: windowed.see(points[part], slots[part]))


def _taken_apart(problem: AttackProblem, rows: Tensor) -> tuple[Windowed | None, bool]:
    """Return the network of a problem taken apart, if it can be, comes out the same, and there is room for ``rows``.

    And whether what it keeps of points it has looked at is bit for bit what it would see of them.
    """
    if problem.images.ndim != 4 or problem.oracle.draws > 1 or len(rows) == 0:
        return None, False
    try:
        network = problem.model.network if isinstance(problem.model, Packed) else problem.model
        windowed = Windowed(network, problem.images[rows[:1]])
        gap, is_exact = _compare(problem.model, windowed, problem.images[rows[:4]])
    except Exception:  # tracing runs the network's own code, which may do anything
        return None, False
    has_room = windowed.bytes_per_image * len(rows) <= MOST_BYTES
    return windowed if gap <= TOLERANCE and has_room else None, is_exact


def _compare(model: nn.Module, windowed: Windowed, images: Tensor) -> tuple[float, bool]:
    """Return how far logits at changed images are from the model's, as a share of the largest logit.

    And whether what is kept of looks at them is bit for bit what would be seen.
    """
    height, width = images.shape[2:]
    slots, generator = torch.arange(len(images), device=images.device), seeded_generator("nearby")
    gaps, is_exact = [], True
    for top, left in ((0, 0), (height // 3, width // 3)):  # at a border, as padding matters, and within
        patch = (slice(top, top + 2), slice(left, left + 2))
        changed = images.clone()
        drawn = torch.rand(changed[:, :, patch[0], patch[1]].shape, generator=generator)
        drawn[0], drawn[-1] = 0, 1
        changed[:, :, patch[0], patch[1]] = drawn.to(images.device)
        windowed.make_room(len(images))
        windowed.see(images, slots)
        with torch.no_grad():
            gaps.append(logit_gap(run_model(model, changed), windowed.look(changed, slots, patch)))
        windowed.keep(slots)
        is_exact &= windowed.has_seen(changed, slots)
    return max(gaps), is_exact
