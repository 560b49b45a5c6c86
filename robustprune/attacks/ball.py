"""Where an attack may go: the ε-balls around its images, as far as they lie in [0, 1]."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from robustprune.attacks.norms import Norm, contain, get_norm


class Ball:
    """The balls of one radius around images (N, …)."""

    def __init__(self, images: Tensor, epsilon: float, norm: Norm) -> None:
        """Share the images."""
        self._images, self._epsilon, self._norm = images, epsilon, norm
        self._lately: tuple[Tensor, tuple[Tensor, Tensor]] | None = None

    def contain(self, points: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return points (n, …) moved into the balls around the images ``rows``, around all if None."""
        if self._norm.name == "linf":
            return points.clamp(*self._bounds_of(rows))
        images = self._images if rows is None else self._images[rows]
        return contain(points, images, self._epsilon, self._norm)

    @cached_property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The least and largest points (N, …) of the balls in L∞, which are boxes."""
        norm, beyond = get_norm("linf"), 2 * self._epsilon
        low, high = (contain(self._images + each, self._images, self._epsilon, norm) for each in (-beyond, beyond))
        return low, high

    def _bounds_of(self, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the bounds of some images; loops ask for the same ones at each step."""
        if rows is None:
            return self.bounds
        if self._lately is None or not torch.equal(self._lately[0], rows):
            low, high = self.bounds
            self._lately = rows.clone(), (low[rows], high[rows])
        return self._lately[1]
