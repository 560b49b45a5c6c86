"""How alike two networks represent the same images, layer by layer (the paper's support for Tables 2 and 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustprune.data import AnyData, Split, read_images
from robustprune.errors import EvaluationError, PruningError
from robustprune.inference import NO_FEATURES, average_places, find_head
from robustprune.metrics import LEAST_SAMPLES, MeanCka, centred_gram
from robustprune.models import (
    FunctionNetwork,
    as_network,
    evaluation_mode,
    hides_layers,
    model_device,
    network_name,
    placed,
    run_model,
    run_uncompiled,
    to_unit_range,
)
from robustprune.pruning import find_blocks
from robustprune.runtime.arrays import Array, to_tensor
from robustprune.runtime.devices import Device
from robustprune.runtime.work import Work, labelled, steps

PENULTIMATE = "penultimate"
"""Stands for what the last linear layer receives, whatever that layer is called."""

Gram = np.ndarray[Any, np.dtype[np.float64]]


def compare_representations(
    first: nn.Module,
    second: nn.Module,
    images: Split | Array | AnyData,
    *,
    layers: Sequence[str] | None = None,
    batch_size: int = 256,
    device: Device = None,
    work: Work = Work(),
) -> dict[str, float | None]:
    """Return the linear CKA of two networks, by layer: 1 for representations that are alike, about 0 for unrelated.

    Each network sees each image once, in evaluation mode. Of a batch, one Gram matrix per layer is kept and no
    features, so memory does not grow with the number of images. The networks are left as they were.

    Args:
        first: Maps float images in [0, 1] to logits, such as a ticket's network.
        second: Another one, such as the dense network, with outputs of any shape.
        images: An image set's split; (N, …) uint8 or float in [0, 1]; or labelled images as for
            :func:`robustprune.as_data`, of which labels may be lacking.
        layers: Names of modules that both networks have, or ``"penultimate"`` for what the last linear layer
            receives; by default the residual blocks that both have, in order, then the penultimate features.
        batch_size: Images per minibatch of the estimate; at least 4. Up to three images left over at the end are
            left out.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``, … or ``auto``, the fastest there is; by default where
            the network's weights are. The network itself stays where it is.
        work: Its progress is told of batches.

    Returns:
        Name → CKA, None where a network's features do not vary over the images.

    Raises:
        EvaluationError: A network has no such layer, or does not run it; too few images; features not finite.
        ModelError: A network cannot run on these images.
    """
    first, second = (placed(as_network(each), device) for each in (first, second))
    images = images if isinstance(images, Split) else _tensor(images)
    if batch_size < LEAST_SAMPLES:
        raise EvaluationError(f"unbiased CKA needs batches of at least {LEAST_SAMPLES} images, got {batch_size}")
    if isinstance(images, Tensor) and images.ndim < 2:
        raise EvaluationError(f"expected a batch of images (N, …), got shape {tuple(images.shape)}")
    if len(images) < LEAST_SAMPLES:
        raise EvaluationError(f"unbiased CKA needs at least {LEAST_SAMPLES} images, got {len(images)}")
    means: dict[str, MeanCka] = {}
    chosen: list[tuple[nn.Module, dict[str, nn.Module]]] = []
    last = len(images) % batch_size
    step = steps(
        labelled(work.progress, "comparing representations"), len(images) // batch_size + (last >= LEAST_SAMPLES)
    )
    with evaluation_mode(first), evaluation_mode(second):
        for batch in _batches(images, batch_size):
            if not means:
                names = _matched_layers(first, second, batch) if layers is None else list(layers)
                chosen = [(network, _modules(network, names, batch)) for network in (first, second)]
                means = {name: MeanCka() for name in names}
            grams = [_grams(network, modules, batch) for network, modules in chosen]
            for name, mean in means.items():
                mean.add(*(each[name] for each in grams))
            step()
    return {name: None if math.isnan(mean.value) else mean.value for name, mean in means.items()}


def _tensor(images: Any) -> Tensor:
    return to_tensor(images, "images") if isinstance(images, Tensor | np.ndarray) else read_images(images)[0]


def _matched_layers(first: nn.Module, second: nn.Module, images: Tensor) -> list[str]:
    """Return the residual blocks that both networks have, by name and in order, then ``"penultimate"``."""
    blocks = [_block_names(network, images) for network in (first, second)]
    return [*(name for name in blocks[0] if name in blocks[1]), PENULTIMATE]


def _block_names(network: nn.Module, images: Tensor) -> list[str]:
    if isinstance(network, FunctionNetwork) or hides_layers(network):
        return []
    try:
        return [block.name for block in find_blocks(network, to_unit_range(images[:2]).cpu())]
    except PruningError:  # a chain, of which the penultimate features can still be compared
        return []


def _batches(images: Split | Tensor, batch_size: int) -> Iterator[Tensor]:
    if isinstance(images, Split):
        parts: Iterable[Tensor] = (batch.images for batch in images.batches(batch_size))
    else:
        parts = torch.split(images, batch_size)
    return (part for part in parts if len(part) >= LEAST_SAMPLES)


def _modules(network: nn.Module, names: Sequence[str], images: Tensor) -> dict[str, nn.Module]:
    modules: dict[str, nn.Module] = {}
    called = network_name(network)
    for name in names:
        if name == PENULTIMATE:
            found = find_head(network, to_unit_range(images[:2].to(model_device(network))))
            if found is None:
                raise EvaluationError(f"the penultimate features of this {called} cannot be seen: {NO_FEATURES}")
            modules[name] = found.module
            continue
        try:
            modules[name] = network.get_submodule(name)
        except AttributeError as error:
            raise EvaluationError(
                f"this {called} has no layer {name!r}; leave the layers out to compare those that both networks have"
            ) from error
        if hides_layers(modules[name]):
            raise EvaluationError(f"layer {name!r} of this {called} cannot be seen: {NO_FEATURES}")
    return modules


def _grams(network: nn.Module, modules: dict[str, nn.Module], batch: Tensor) -> dict[str, Gram]:
    """Return the Gram matrix of each layer, computed at once: later layers may write into what it returned."""
    grams: dict[str, Gram] = {}

    def look(name: str) -> Callable[..., None]:
        def hook(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
            features = average_places(module, inputs[0]) if name == PENULTIMATE else output
            if not isinstance(features, Tensor):
                raise EvaluationError(
                    f"layer {name!r} returns {type(features).__name__}, not one tensor; choose another"
                )
            grams[name] = centred_gram(features)

        return hook

    with ExitStack() as stack, torch.no_grad(), run_uncompiled(network):
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(look(name)).remove)
        run_model(network, to_unit_range(batch.to(model_device(network))))
    missing = [name for name in modules if name not in grams]
    if missing:
        raise EvaluationError(f"this {network_name(network)} does not run its layer {missing[0]!r} on these images")
    return grams
