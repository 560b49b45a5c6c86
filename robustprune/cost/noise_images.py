"""Images to measure a network with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustprune.errors import ModelError
from robustprune.models import architecture_of, model_type
from robustprune.runtime.arrays import Array, to_tensor
from robustprune.runtime.randomness import seeded_generator


def noise_images(model: nn.Module, count: int, example: Array | None = None) -> Tensor:
    """Return ``count`` images of noise in [0, 1], of the type of the network's weights, on the CPU.

    Args:
        model: A network from :func:`robustprune.build_model`, or any other.
        count: How many.
        example: Images (N, …) whose shape is taken, for a network that was not built by this package.

    Raises:
        ModelError: Neither the network nor an example says what images it takes.
    """
    if example is None:
        architecture = architecture_of(model)
        shape: tuple[int, ...] = (architecture.channels, *architecture.image_size)
    else:
        shape = tuple(to_tensor(example, "the example", ModelError).shape[1:])
    return torch.rand(count, *shape, generator=seeded_generator("cost", count)).to(model_type(model))
