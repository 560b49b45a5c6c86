"""A copy of a network for use, not for training: batch normalization folded away, channels-last, no gradients."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from robustprune.errors import ModelError, ModelWarning
from robustprune.inference.folding import coarsest_spacing, find_pairs, fold
from robustprune.inference.packed import Packed
from robustprune.models.architecture import known_architecture
from robustprune.models.forward import (
    channels_last,
    logit_gap,
    model_device,
    model_type,
    placed,
    run_model,
    to_unit_range,
)
from robustprune.models.networks import (
    FunctionNetwork,
    as_network,
    copy_network,
    network_name,
    to_evaluation,
    uncompiled,
)
from robustprune.runtime.arrays import Array, to_tensor
from robustprune.runtime.devices import Device
from robustprune.runtime.randomness import isolated_generators, seeded_generator

TOLERANCE = 1e-4
"""How far a logit of the copy may lie from the original's, as a share of the largest logit of the batch."""

ROUNDINGS = 8
"""Of a network that computes in half precision: so many times the distance of two numbers near 1."""

_BATCH_SIZES = (1, 2, 4)
_PROBES = 16
_MOST_TURN = 0.01
"""How far a gradient may be from the copy's, as a share of its length: a ReLU's may fall to the other side at zero."""


def freeze(model: nn.Module, example: Array | None = None, *, device: Device = None) -> nn.Module:
    """Return a copy of a network in evaluation mode that computes the same logits faster.

    Batch normalizations that directly follow a convolution or linear layer are folded into it, weights lie
    channels-last and take no gradients; the copy computes in the network's own type, and uncompiled. Gradients with
    respect to the images pass. Before it is returned, the copy's logits are compared with the network's own on
    batches of 1, 2 and 4 images, part of the example and part noise; where they differ by more than
    :data:`TOLERANCE` (or, of a network in half precision, by more than so many roundings as :data:`ROUNDINGS` says), or
    folding fails, a warning says so and the copy keeps its batch normalizations. The model itself is left as it was.

    Args:
        model: Maps float images in [0, 1] to logits (N, K); normalization is inside it.
        example: (N, …) images, uint8 or float in [0, 1], to compare with; a network from
            :func:`robustprune.build_model` needs none.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``, … or ``auto``, the fastest there is; by default where
            the network's weights are. The network itself stays where it is.

    Raises:
        ModelError: The network cannot be copied, as a plain function, or does not run on such images.
    """
    model = placed(as_network(model), device)
    # Tensors made in inference mode could never again take part in a gradient.
    with torch.inference_mode(False), torch.no_grad(), isolated_generators(device=model_device(model)):
        images = _probes(model, example)
        plain = channels_last(to_evaluation(uncompiled(copy_network(model))))
        for parameter in plain.parameters():  # scripts cannot be asked as a whole
            parameter.requires_grad_(False)
        run_model(plain, images[:1])
        try:
            folded = copy.deepcopy(plain)
            pairs = find_pairs(folded, images[:2].to(model_type(folded)))
            if not pairs:
                return plain
            fold(folded, pairs)
            channels_last(folded)
            problem = None
            for size in _BATCH_SIZES:
                gap = _gap(plain, folded, images[:size])
                if not gap <= tolerance_of(plain, images[:1], gap):  # as NaN neither is nor is not
                    problem = f"logits of {size} images differ by {gap:.2g} of the largest"
                    break
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        if problem is None:
            return folded
    warnings.warn(
        f"the batch normalizations of this {network_name(model)} cannot be folded into its convolutions ({problem}); "
        "a copy that keeps them is used, which computes the same but takes longer",
        ModelWarning,
        stacklevel=2,
    )
    return plain


@contextmanager
def shared_copies() -> Iterator[None]:
    """Let :func:`accelerate` copy a network once for all calls within the block, which does not change the network."""
    if _SHARED.get() is not None:
        yield
        return
    outer = _SHARED.set([])
    try:
        yield
    finally:
        _SHARED.reset(outer)


_SHARED: ContextVar[list[tuple[nn.Module, nn.Module]] | None] = ContextVar("shared copies", default=None)


def accelerate(network: nn.Module, images: Tensor) -> nn.Module:
    """Return a network that gives the same logits, and gradients with respect to images, for less.

    A frozen copy, on a CPU with packed convolutions; each is compared with what it stands for. The network itself where
    there is none: with a warning, but for a plain function, which cannot be copied. They are compared on some of the
    images (n, …).
    """
    shared = _SHARED.get()
    for known, made in shared or ():
        if known is network:
            return made
    made = _accelerated(network, images)
    if shared is not None:
        shared.append((network, made))
    return made


def _accelerated(network: nn.Module, images: Tensor) -> nn.Module:
    if any(isinstance(module, FunctionNetwork) for module in network.modules()):
        return network
    images = images[:_PROBES]
    try:
        copy = freeze(network, images)
        gap = _gap(network, copy, images)
    except ModelError as error:
        problem = str(error)
    else:
        if gap <= tolerance_of(network, images, gap):
            return _packed(copy, images)
        problem = f"its logits differ from the model's by {gap:.2g} of the largest"
    warnings.warn(
        f"no frozen copy of this {network_name(network)} can stand in its place ({problem}); the model itself is used, "
        "which comes to the same but takes longer",
        ModelWarning,
        stacklevel=2,
    )
    return network


def _packed(copy: nn.Module, images: Tensor) -> nn.Module:
    """Return the copy with packed convolutions, where that can be done and comes to the same."""
    if images.device.type != "cpu":
        return copy
    try:
        packed = Packed(copy)
        slopes, found = (_slopes(network, images) for network in (copy, packed))
        turn = float((found - slopes).norm())
        is_same = _gap(copy, packed, images) <= TOLERANCE and turn <= _MOST_TURN * float(slopes.norm())
    except Exception:  # tracing runs the network's own code, which may do anything
        return copy
    return packed if is_same else copy


def _slopes(network: nn.Module, images: Tensor) -> Tensor:
    """Return the gradient (n, …) of a sum of the logits with weights of both signs."""
    images = images.detach().requires_grad_()
    with isolated_generators(0, images.device):
        logits = run_model(network, images)
    weights = torch.randn(logits.shape, generator=seeded_generator("slopes"))
    (found,) = torch.autograd.grad((logits * weights).sum(), images)
    return found


def _gap(model: nn.Module, copy: nn.Module, images: Tensor) -> float:
    """Return the largest difference between logits, as a share of the largest logit."""
    logits = []
    for network in (model, copy):
        # A network that draws random numbers draws the same ones twice.
        with torch.no_grad(), isolated_generators(0, images.device):
            logits.append(run_model(network, images))
    return logit_gap(*logits)


def _probes(model: nn.Module, example: Array | None) -> Tensor:
    """Return images (4, …) where the model is: up to two of the example, then noise."""
    architecture = known_architecture(model)
    if example is not None:
        images = to_unit_range(to_tensor(example, "the example")[:2]).cpu()
    elif architecture is not None:
        images = torch.empty(0, architecture.channels, *architecture.image_size)
    else:
        raise ModelError(
            f"a frozen copy of this {network_name(model)} cannot be compared with it: what images it takes is not "
            "known; give some as example"
        )
    noise = torch.rand(max(_BATCH_SIZES), *images.shape[1:], generator=seeded_generator("frozen copy"))
    return torch.cat([images, noise])[: max(_BATCH_SIZES)].to(model_device(model))


def tolerance_of(network: nn.Module, images: Tensor, gap: float) -> float:
    """Return how far logits of a copy may be from a network's own, as a share of the largest.

    That is :data:`TOLERANCE`, and :data:`ROUNDINGS` of the coarsest type that the network computes in where that is
    half precision, be it by its weights or by ``torch.autocast``.
    It is run on images (n, …) to see its types, unless the ``gap`` between the logits is little.
    """
    if gap <= TOLERANCE:
        return TOLERANCE
    spacing = coarsest_spacing(network, images.to(model_type(network)))
    return ROUNDINGS * spacing if spacing > torch.finfo(torch.float32).eps else TOLERANCE
