"""The last layer of a network, and the penultimate features: what that layer receives.

The last layer is found by what it does, not by what it is called: a fully connected layer or a 1×1 convolution. Where
it sees a feature at several places (a convolution, or a linear layer over tokens) and the answers are averaged,
averaging what it receives comes to the same, and that average is the feature.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.inference.frozen import tolerance_of
from robustprune.models import evaluation_mode, logit_gap, run_model, run_uncompiled


@dataclass(frozen=True, eq=False)
class LinearHead:
    """The last layer, f = W z + b.

    Attributes:
        weight: W, (K, D).
        bias: b, (K,); zeros for a layer without one.
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Return logits (N, K) of features (N, D)."""
        return features @ self.weight.T + self.bias

    def double(self) -> LinearHead:
        """Return the same in float64."""
        return LinearHead(self.weight.double(), self.bias.double())


NO_FEATURES = (
    "the network shows no fully connected layer or 1×1 convolution to take features from; one of "
    "TorchScript or torch.export does not show its layers: hand over the nn.Module that it was made of"
)


@dataclass(frozen=True, eq=False)
class FoundHead:
    """Where features are to be caught, and the layer as W and b if that alone makes the logits."""

    module: nn.Linear | nn.Conv2d
    head: LinearHead | None


def find_head(network: nn.Module, images: Tensor) -> FoundHead | None:
    """Return the last layer whose W·z + b are the network's logits; else the last one there is; else None.

    The network is tried on a few images (n, …), float in [0, 1] and where it is, in evaluation mode.

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
    last_first = [(module, average_places(module, received)) for module, received in reversed(seen.items())]
    usable = [(module, features) for module, features in last_first if len(features) == len(logits)]
    scale = float(logits.nan_to_num(0, 0, 0).abs().max())
    for module, features in usable:
        head = _as_linear(module)
        if len(head.weight) == 1 and logits.shape[1] == 2:  # one logit of a binary classifier, which counts as (0, z)
            head = LinearHead(*(torch.cat([torch.zeros_like(each), each]) for each in (head.weight, head.bias)))
        if head.weight.shape[0] == logits.shape[1]:
            made = head(features.float()).to(logits.dtype)
            with evaluation_mode(network), run_uncompiled(network):
                share = tolerance_of(network, images, logit_gap(logits, made))
            # A network of NaN logits has a last layer, too.
            if torch.allclose(made, logits, rtol=0, atol=share * scale + 1e-12, equal_nan=True):
                return FoundHead(module, LinearHead(head.weight.cpu(), head.bias.cpu()))
    return FoundHead(usable[0][0], None) if usable else None


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
