"""Networks shaped for images in hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from robustprune.data.given import AnyData, as_data
from robustprune.data.image_data import ImageData
from robustprune.models import Architecture
from robustprune.models.build import build_model as build_for


def build_model(
    name: str,
    data: AnyData | Architecture,
    *,
    seed: int = 0,
    weights_file: str | Path | None = None,
    download: bool = False,
    **options: Any,
) -> nn.Module:
    """Return a network for an image set, freshly initialized unless weights are asked for.

    Where weights come from is no part of the architecture: a ticket carries its own, and opening one neither
    downloads nor reads another file.

    Args:
        name: ``resnet20|32|44|56|110``, ``wrn-28-10`` and its like, ``wrn:DEPTH-WIDENING``, ``torchvision:NAME``,
            ``timm:NAME``, ``robustbench:NAME``, ``file:PATH:NAME`` or a plug-in's name; options may follow it, as in
            ``resnet32:width=32``.
        data: The image set (its classes, channels, size and normalization constants), or training images as for
            :func:`robustprune.as_data`, which are read for it; or the architecture of a network for the same images.
        seed: Decides the initial weights; the process-wide generators are left as they were.
        weights_file: A local file of weights in place of random ones; only tensors are read from it.
        download: Fetch the published weights of a ``robustbench:`` model where they are not here yet.
        options: What the builder takes, such as ``width`` for the CIFAR ResNets.

    Returns:
        A module from images (N, C, H, W) in [0, 1] to logits (N, classes), in evaluation mode, with its
        :class:`Architecture` as attribute ``architecture``.

    Raises:
        UnknownNameError: No model of that name.
        ModelError: The network cannot be built so, or does not run on such images; or they are all of one class.
        DataError: Images that :func:`robustprune.as_data` refuses.
    """
    images = with_shape(data)
    return build_for(name, images, seed=seed, weights_file=weights_file, download=download, **options)


def with_shape(data: AnyData | Architecture) -> ImageData | Architecture:
    """Return what says of which shape images are and how many classes they have; images in hand are read for it."""
    return data if isinstance(data, Architecture) else as_data(data, "train")
