"""The logits of a network for many images, in one pass that leaves no trace on it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustprune.errors import EvaluationError
from robustprune.models import as_network, evaluation_mode, model_device, placed, run_model, to_unit_range
from robustprune.runtime.arrays import Array, to_tensor
from robustprune.runtime.devices import Device
from robustprune.runtime.work import steps


def predict_logits(
    model: nn.Module,
    images: Array,
    *,
    batch_size: int = 512,
    device: Device = None,
    progress: Callable[[float, float], None] | None = None,
) -> Tensor:
    """Return the logits of ``model``, in evaluation mode, for all images.

    Args:
        model: Maps float images in [0, 1] to logits (N, K); normalization is inside it. A plain function will do.
        images: (N, …), uint8 or float in [0, 1].
        batch_size: Images per forward pass.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``, … or ``auto``, the fastest there is; by default where
            the network's weights are. The network itself stays where it is.
        progress: Called with how many batches are done, and how many there are.

    Returns:
        (N, K) on the CPU, float32, or float64 of a network that computes in it.

    Raises:
        EvaluationError: No images, or of a type that is neither uint8 nor float.
        ModelError: The model cannot run on these images or does not return (N, K) logits.
    """
    network, images = placed(as_network(model), device), to_tensor(images, "images")
    if images.ndim < 2 or len(images) == 0:
        raise EvaluationError(f"expected a batch of images (N, …) with N ≥ 1, got shape {tuple(images.shape)}")
    if batch_size < 1:
        raise EvaluationError(f"batch_size must be at least 1, got {batch_size}")
    place = model_device(network)
    with evaluation_mode(network), torch.inference_mode():
        parts, found = torch.split(images, batch_size), []
        step = steps(progress, len(parts))
        for batch in parts:
            found.append(run_model(network, to_unit_range(batch.to(place))).cpu())  # (n, K)
            step()
    return torch.cat(found)
