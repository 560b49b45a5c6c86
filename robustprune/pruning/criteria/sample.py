"""What is scored, and on which images: a copy of the network and batches of training images."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from robustprune.data import ImageData, stratified_indices, stratified_per_class
from robustprune.models import copy_network
from robustprune.runtime.randomness import seeded_generator

BatchNormMode = Literal["batch", "running"]

Batches = list[tuple[Tensor, Tensor]]
"""Images (n, C, H, W) in [0, 1] and labels (n,)."""


def scoring_copy(model: nn.Module, bn_mode: BatchNormMode) -> nn.Module:
    """Return a deep copy to score: dropout off, batch normalization as asked, gradients on.

    A network in half precision or bfloat16 is scored in single precision, as gradients and ranks drown in their
    rounding, and one laid out channels last in the usual order, as other kernels round otherwise.
    """
    network = copy_network(model)
    network.eval()
    network.to(memory_format=torch.contiguous_format)
    if any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in (*network.parameters(), *network.buffers())):
        network.float()
    for parameter in network.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
        parameter.grad = None
    if bn_mode == "batch":
        for module in network.modules():
            if normalizes_batches(module):
                module.train()
    return network


def trial_images(data: ImageData, like: nn.Module) -> list[Tensor]:
    """Return two batches of two images of noise, in the set's shape and the network's type, to see how it works."""
    shape = (2, 2, data.channels, *data.image_size)
    return list(torch.rand(shape, generator=seeded_generator("trial images")).to(_first(like)))


def _first(network: nn.Module) -> Tensor:
    """Return a tensor of the network's floating-point type, on its device."""
    tensors = [tensor for tensor in (*network.parameters(), *network.buffers()) if tensor.is_floating_point()]
    return tensors[0] if tensors else torch.zeros(())


def normalizes_batches(module: nn.Module) -> bool:
    """Whether a module is a batch normalization, also where it is scripted and only the name of its class is left."""
    scripted = str(getattr(module, "original_name", ""))
    return isinstance(module, nn.modules.batchnorm._BatchNorm) or scripted.startswith("BatchNorm")


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
    first = _first(like)
    count = max(1, -(-len(indices) // batch_size))
    by_class = indices[split.labels[indices.to(split.labels.device)].cpu().argsort(stable=True)]
    chunks = [by_class[batch::count].sort().values for batch in range(count)]
    return [
        (
            (split.take(chunk).to(first.device, first.dtype) / 255).contiguous(),
            split.labels[chunk.to(split.labels.device)].to(first.device),
        )
        for chunk in chunks
    ]
