"""Running a network over many images without leaving a trace on it: modes and gradients stay as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustprune.errors import EvaluationError, ModelError

Array = Tensor | np.ndarray[Any, Any]

# What networks raise on images of a shape that they are not made for.
_FAILURES = (RuntimeError, ValueError, AssertionError, TypeError, IndexError)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Put ``model`` in evaluation mode for the block, then give every submodule the mode it had.

    The modes come back one by one, also after an exception, so that a network with some layers frozen in
    evaluation mode is not flattened into all-training or all-evaluation.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield model
    finally:
        # Not through train(): a network may override it to hold some layers in one mode.
        for module, training in modes:
            module.training = training


@contextmanager
def frozen_parameters(model: nn.Module) -> Iterator[nn.Module]:
    """Switch ``requires_grad`` of all parameters off for the block, then restore each flag.

    Gradients with respect to the input then cost no gradients of the weights, and ``.grad`` stays as it was.
    """
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield model
    finally:
        for parameter, requires_grad in flags:
            parameter.requires_grad_(requires_grad)


def to_tensor(values: Array) -> Tensor:
    """Return values as a tensor; an array is copied, as it may not be writable."""
    return values if isinstance(values, Tensor) else torch.tensor(values)


def to_unit_range(images: Array) -> Tensor:
    """Return images as float32 in [0, 1]: uint8 is divided by 255, floats are taken to be there already.

    Args:
        images: uint8 0…255 or float [0, 1], any shape.

    Raises:
        EvaluationError: Any other type, which may be on either scale.
    """
    images = to_tensor(images)
    if images.dtype == torch.uint8:
        return images.float() / 255
    if images.is_floating_point():
        return images.float()
    raise EvaluationError(f"images must be uint8 (0 to 255) or float (0 to 1), got {images.dtype}; convert them")


def predict_logits(
    model: nn.Module,
    images: Array,
    *,
    batch_size: int = 512,
    device: torch.device | str | None = None,
) -> Tensor:
    """Return the logits of ``model``, in evaluation mode, for all images.

    Args:
        model: Maps float images in [0, 1] to logits (N, K); normalization is inside it.
        images: (N, …), uint8 or float in [0, 1].
        batch_size: Images per forward pass.
        device: Where the batches go; by default where the model is.

    Returns:
        (N, K) float32 on the CPU.

    Raises:
        EvaluationError: No images, or of a type that is neither uint8 nor float.
        ModelError: The model cannot run on these images or does not return (N, K) logits.
    """
    images = to_tensor(images)
    if images.ndim < 2 or len(images) == 0:
        raise EvaluationError(f"expected a batch of images (N, …) with N ≥ 1, got shape {tuple(images.shape)}")
    if batch_size < 1:
        raise EvaluationError(f"batch_size must be at least 1, got {batch_size}")
    place = model_device(model, device)
    with evaluation_mode(model), torch.inference_mode():
        batches = [
            run_model(model, to_unit_range(batch.to(place))).cpu()  # (n, K)
            for batch in torch.split(images, batch_size)
        ]
    return torch.cat(batches)


def run_model(model: nn.Module, images: Tensor) -> Tensor:
    """Return float32 logits (n, K) of one batch, in whatever mode the model is and differentiably.

    The images are cast to the type of the weights, and copied: a network that normalizes in place changes
    neither the caller's images nor a leaf of the graph.

    Raises:
        ModelError: The model fails on this batch, or its output is not (n, K ≥ 2) floating-point logits.
    """
    batch = images.clone().to(_floating_tensor(model).dtype)
    try:
        logits = model(batch)
    except _FAILURES as error:
        reason = str(error) or type(error).__name__
        raise ModelError(f"the model cannot run on images of shape {tuple(images.shape)}: {reason}") from error
    if not isinstance(logits, Tensor):
        raise ModelError(
            f"the model returned {type(logits).__name__} instead of a tensor of logits; wrap it in a module "
            f"that returns the logits only"
        )
    if logits.ndim != 2 or len(logits) != len(images) or logits.shape[1] < 2 or not logits.is_floating_point():
        raise ModelError(
            f"expected floating-point logits ({len(images)}, K) with K ≥ 2 classes, "
            f"the model returned {logits.dtype} of shape {tuple(logits.shape)}"
        )
    return logits.float()


def logit_gap(expected: Tensor, found: Tensor) -> float:
    """Return the largest difference between logits (n, K), as a share of the largest one expected; NaN stays NaN.

    Between two −∞, which mask a class, there is none; logits of different shapes differ by infinity.
    """
    if found.shape != expected.shape:
        return torch.inf
    is_masked = (expected == -torch.inf) & (found == -torch.inf)
    gap, size = (each.abs().masked_fill(is_masked, 0).max() for each in (found - expected, expected))
    return float(gap / size.clamp(min=1e-30))


def model_device(model: nn.Module, device: torch.device | str | None = None) -> torch.device:
    """Return the device the model is on, after checking it against the one asked for.

    Raises:
        ModelError: ``device`` is another one; nothing is moved behind the caller's back.
    """
    place = _floating_tensor(model).device
    if device is None:
        return place
    asked = torch.device(device)
    has_tensors = any(True for _ in model.parameters()) or any(True for _ in model.buffers())
    same = asked.type == place.type and (asked.index is None or asked.index == place.index)
    if has_tensors and not same:
        raise ModelError(f"the model is on {place}, asked to run on {asked}; move it first: model.to({str(asked)!r})")
    return asked


def _floating_tensor(model: nn.Module) -> Tensor:
    """Return a tensor whose device and type stand for the model's own."""
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.is_floating_point():
            return tensor
    return torch.empty(0, dtype=torch.float32, device="cpu")
