"""A stratified sample of a split."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from robustprune.data.image_data import ImageData
from robustprune.data.stratify import stratified_indices


class Sample(NamedTuple):
    """Images of a split, and which they are."""

    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64, on the CPU
    indices: Tensor  # (N,) places in the split


def take_sample(data: ImageData, split: str, limit: int | None, seed: int) -> Sample:
    """Return a split's images, or a stratified sample of ``limit`` of them.

    Raises:
        DataError: No such split, or a limit that it does not have.
    """
    part = data.require(split)
    indices = torch.arange(len(part)) if limit is None else stratified_indices(part.labels, limit, seed)
    return Sample(part.take(indices), part.labels[indices].cpu(), indices)


def images_at(images: Tensor, places: Tensor) -> Tensor:
    """Return the images at some places (n,) in rising order: of all of them no copy."""
    return images if len(places) == len(images) else images[places.to(images.device)]
