"""Finding the last linear layer of any classifier by what it does, not by what it is called.

Found are fully connected layers and 1×1 convolutions. Where such a layer sees a feature at several places (a
1×1 convolution, or a linear layer over tokens) and the answers are averaged, averaging what it receives comes
to the same, and that average is the feature.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.inference import tolerance_of
from robustprune.models import evaluation_mode, logit_gap, run_model, run_uncompiled
from robustprune.ood.outputs import LinearHead


@dataclass(frozen=True, eq=False)
class FoundHead:
    """Where features are to be caught, and the layer as W and b if that alone makes the logits."""

    module: nn.Linear | nn.Conv2d
    head: LinearHead | None


def find_head(network: nn.Module, images: Tensor) -> FoundHead | None:
    """Return the last layer whose W·z + b are the network's logits; else the last one there is; else None.

    Args:
        network: Maps images to logits; used in evaluation mode.
        images: (n, …) float in [0, 1], where the network is: a few to try it on.

    Raises:
        ModelError: The network does not run on these images.
    """
    seen: dict[nn.Linear | nn.Conv2d, Tensor] = {}

    def note(module: Any, inputs: tuple[Any, ...]) -> None:
        seen.pop(module, None)  # called again: the later call counts, also for the order
        if inputs and isinstance(inputs[0], Tensor):
            seen[module] = inputs[0].detach()

    candidates = [module for module in network.modules() if _may_be_head(module)]
    handles = [module.register_forward_pre_hook(note) for module in candidates]
    try:
        with evaluation_mode(network), torch.no_grad(), run_uncompiled(network):
            logits = run_model(network, images)
    finally:
        for handle in handles:
            handle.remove()
    for module, received in reversed(seen.items()):
        head = _as_linear(module)
        features = average_places(module, received)
        if head.weight.shape[0] == logits.shape[1] and features.shape[0] == logits.shape[0]:
            made = head(features.float()).to(logits.dtype)
            scale = logits[logits.isfinite()].abs().max() if bool(logits.isfinite().any()) else logits.new_ones(())
            with evaluation_mode(network), run_uncompiled(network):
                share = tolerance_of(network, images, logit_gap(logits, made))
            # A network of NaN logits has a last layer, too.
            if torch.allclose(made, logits, rtol=0, atol=share * float(scale) + 1e-12, equal_nan=True):
                return FoundHead(module, LinearHead(head.weight.cpu(), head.bias.cpu()))
    for module, received in reversed(seen.items()):
        if average_places(module, received).shape[0] == logits.shape[0]:
            return FoundHead(module, None)
    return None


@contextmanager
def catching(found: FoundHead | None) -> Iterator[list[Tensor]]:
    """Yield a list that holds the features (n, D) of the last batch that went through the layer, if there is one."""
    caught: list[Tensor] = []
    if found is None:
        yield caught
        return

    def catch(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        caught[:] = [average_places(found.module, inputs[0])]

    handle = found.module.register_forward_pre_hook(catch)
    try:
        yield caught
    finally:
        handle.remove()


def average_places(module: nn.Module, received: Tensor) -> Tensor:
    """Return what a layer receives as features (n, D): averaged over places, if there are several."""
    if isinstance(module, nn.Conv2d):
        return received.mean(dim=(-2, -1))
    return received if received.ndim <= 2 else received.flatten(1, -2).mean(dim=1)


def _may_be_head(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (
        isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1
    )


def _as_linear(module: nn.Linear | nn.Conv2d) -> LinearHead:
    weight = module.weight.detach().flatten(1).float()
    bias = weight.new_zeros(len(weight)) if module.bias is None else module.bias.detach().float()
    return LinearHead(weight, bias)
