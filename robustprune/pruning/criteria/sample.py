"""What is scored, and on which images: a copy of the network and batches of training images."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn

from robustprune.data import ImageData, stratified_indices, stratified_per_class

BatchNormMode = Literal["batch", "running"]

Batches = list[tuple[Tensor, Tensor]]
"""Images (n, C, H, W) in [0, 1] and labels (n,)."""


def scoring_copy(model: nn.Module, bn_mode: BatchNormMode) -> nn.Module:
    """Return a deep copy to score: dropout off, batch normalization as asked, gradients on."""
    network = copy.deepcopy(model).eval().requires_grad_(True)
    network.zero_grad(set_to_none=True)
    if bn_mode == "batch":
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train()
    return network


def images_per_class(data: ImageData, per_class: int, seed: int) -> Tensor:
    """Return the indices of so many training images of each class."""
    return stratified_per_class(data.require("train").labels, per_class, seed)


def images_in_proportion(data: ImageData, count: int, seed: int) -> Tensor:
    """Return the indices of ``count`` training images, classes in proportion; all images if there are fewer.

    Every class is there at least once, which takes more than ``count`` images where there are more classes.
    """
    labels = data.require("train").labels
    return stratified_indices(labels, min(len(labels), max(count, len(torch.unique(labels)))), seed)


def as_batches(data: ImageData, indices: Tensor, batch_size: int, like: nn.Module) -> Batches:
    """Return training images as batches, in the type and on the device of the network's parameters.

    The batches are of nearly equal size, so that no tiny last one distorts batch statistics, and every class is
    spread evenly over them, also where the set is ordered by class.
    """
    split = data.require("train")
    parameter = next(like.parameters())
    count = max(1, -(-len(indices) // batch_size))
    by_class = indices[split.labels[indices.to(split.labels.device)].cpu().argsort(stable=True)]
    chunks = [by_class[batch::count].sort().values for batch in range(count)]
    return [
        (
            split.take(chunk).to(parameter.device, parameter.dtype) / 255,
            split.labels[chunk.to(split.labels.device)].to(parameter.device),
        )
        for chunk in chunks
    ]
