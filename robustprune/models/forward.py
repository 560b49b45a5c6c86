"""Running a network over many images without leaving a trace on it: modes and gradients stay as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.errors import EvaluationError, ModelError, RobustPruneError
from robustprune.models.networks import FunctionNetwork, copy_network, network_name, reason_of, run_uncompiled
from robustprune.models.returned import check_logits, pick_logits
from robustprune.runtime.arrays import Array, to_tensor
from robustprune.runtime.devices import Device, choose_device, is_same_device
from robustprune.runtime.environment import frozen_constants
from robustprune.runtime.randomness import isolated_generators

_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@contextmanager
def frozen_parameters(model: nn.Module) -> Iterator[nn.Module]:
    """Switch ``requires_grad`` of all parameters off for the block, then restore each flag.

    Gradients with respect to the input then cost no gradients of the weights, and ``.grad`` stays as it was.
    """
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in flags:
            if parameter.is_leaf:  # those of a copied script are not, and cannot be switched
                parameter.requires_grad_(False)
        yield model
    finally:
        for parameter, requires_grad in flags:
            if parameter.is_leaf:
                parameter.requires_grad_(requires_grad)


def to_unit_range(images: Array) -> Tensor:
    """Return images as float32 in [0, 1]: uint8 is divided by 255, floats are taken to be there already.

    Args:
        images: uint8 0…255 or float [0, 1], any shape.

    Raises:
        EvaluationError: Any other type, which may be on either scale.
    """
    images = to_tensor(images, "images")
    if images.dtype == torch.uint8:
        return images.float() / 255
    if images.is_floating_point():
        return images.float()
    raise EvaluationError(f"images must be uint8 (0 to 255) or float (0 to 1), got {images.dtype}; convert them")


def run_model(model: nn.Module, images: Tensor) -> Tensor:
    """Return logits (n, K) of one batch, in whatever mode the model is and differentiably.

    The images are cast to the type of the weights, and copied: a network that normalizes in place changes
    neither the caller's images nor a leaf of the graph.

    What a network returns may be logits alone, or have them as `pick_logits` finds them; one logit of a binary
    classifier becomes two, (0, z).

    Returns:
        (n, K) float32, or float64 of a network that computes in it.

    Raises:
        ModelError: The model fails on this batch, or there are no floating-point logits (n, K) in what it returns.
    """
    batch = images.clone().to(model_type(model))
    kind = "" if batch.dtype == torch.float32 else f" in {batch.dtype}"
    with naming_failures(f"cannot run on images of shape {tuple(images.shape)}{kind}"):
        logits = logits_of(model, batch)
    logits = logits.as_subclass(Tensor)  # other packages know no kind of tensor but torch's own
    return logits if logits.dtype == torch.float64 else logits.float()


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """Return logits (n, K) of images (n, …) that have the type the network takes, as they come out of it.

    Raises:
        ModelError: There are none in what it returns; else whatever the network raises.
    """
    outputs = model(images)
    return check_logits(outputs, len(images), lambda: _with_graph(model, images, outputs))


def _with_graph(model: nn.Module, images: Tensor, outputs: Any) -> Tensor | None:
    """Return what a network returns for images, with the graph that made it, if it can be had."""
    if not getattr(model, "training", False):  # in training a further pass would leave a trace on it
        generators = isolated_generators(device=images.device)
        with torch.inference_mode(False), torch.enable_grad(), generators, run_uncompiled(model):
            outputs = model(images.detach().clone().to(model_type(model)).requires_grad_())
    found = pick_logits(outputs)
    return found if isinstance(found, Tensor) else None


@contextmanager
def naming_failures(what: str) -> Iterator[None]:
    """Say ``what`` a model cannot do where it raises an error in the block; ours come as they are.

    Raises:
        ModelError: In place of an error of other packages.
    """
    try:
        yield
    except RobustPruneError:
        raise
    except Exception as error:
        raise ModelError(f"the model {what}: {reason_of(error)}") from error


def logit_gap(expected: Tensor, found: Tensor) -> float:
    """Return the largest difference between logits (n, K), as a share of the largest finite one expected.

    Equal infinities, as of classes that are masked out, do not differ; logits of different shapes do by infinity; NaN
    stays NaN.
    """
    if found.shape != expected.shape:
        return torch.inf
    difference = torch.where(found == expected, 0.0, found - expected).abs().max()
    largest = torch.where(expected.isfinite(), expected, 0.0).abs().max()
    return float(difference / largest.clamp(min=1e-30))


def model_device(model: nn.Module) -> torch.device:
    """Return the device that a model takes images on: that of its weights, and the processor if it has none."""
    own = getattr(model, "place", None) if isinstance(model, FunctionNetwork) else None
    return next((tensor.device for tensor in _tensors(model)), own or torch.device("cpu"))


def chosen_device(model: nn.Module, device: Device = None) -> torch.device:
    """Return a device by its name, and without one that of the model.

    Raises:
        RobustPruneError: That device is not here.
    """
    return model_device(model) if device is None else choose_device(device)


def placed(model: nn.Module, device: Device = None) -> nn.Module:
    """Return a network that computes on a device: the model, if it is there, else a copy; the model stays where it is.

    Without a device, the model computes where its weights are.

    Raises:
        RobustPruneError: That device is not here.
        ModelError: The model cannot be copied, or not be moved.
    """
    if device is None:
        return model
    place, here = choose_device(device), model_device(model)
    if is_same_device(place, here):
        return model
    if isinstance(model, FunctionNetwork) and next(_tensors(model), None) is None:
        return FunctionNetwork(model.function, place)
    if isinstance(model, FunctionNetwork):
        raise ModelError(
            f"{model.name} is a plain function of networks on {here}; move them to {place}, or leave it there"
        )
    copied = copy_network(model)
    try:
        return copied.to(place)
    except Exception as error:
        raise ModelError(f"this {network_name(model)} cannot be moved to {place}: {reason_of(error)}") from error


def model_type(model: nn.Module) -> torch.dtype:
    """Return the type of the images that a model takes: that of its first weights of two dimensions or more.

    Scalars, biases and buffers of another type, such as a temperature, are not what meets the images; where there are
    no such weights, the first number of any shape decides.
    """
    weights = (tensor for tensor in chain(model.parameters(), frozen_constants(model)) if tensor.ndim >= 2)
    kinds = (
        tensor.dtype.to_real() if tensor.is_complex() else tensor.dtype for tensor in chain(weights, _tensors(model))
    )
    return next((kind for kind in kinds if kind in _TYPES), torch.float32)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return chain(model.parameters(), model.buffers(), frozen_constants(model))


def channels_last(network: nn.Module) -> nn.Module:
    """Return a network whose weights of four dimensions lie channels-last now."""
    # Not through Module.to(), which refuses networks with weights of five dimensions.
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network
