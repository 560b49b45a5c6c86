"""Keeping a network, and the process it lives in, as they were before an attack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from robustprune.errors import AttackError
from robustprune.models import evaluation_mode, frozen_parameters
from robustprune.runtime.randomness import derive_seed, isolated_generators


@contextmanager
def guarded(model: nn.Module, seed: int = 0) -> Iterator[nn.Module]:
    """Run the block with ``model`` in evaluation mode and frozen, and undo everything after it.

    Restored also after an exception: the mode of every submodule, ``requires_grad`` of every parameter, the
    buffers (a batch normalization held in training mode would count attacked images among its statistics)
    and the global random states of torch, NumPy and Python, which a third-party attack or a stochastic
    network may draw from and which start from ``seed`` inside. Gradients are recorded inside, whatever the
    caller had switched off.

    Raises:
        AttackError: The weights are inference tensors, which no gradient can pass.
    """
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise AttackError("the model was made under torch.inference_mode(); make or load it outside of it")
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(isolated_generators(derive_seed(seed, "attack")))
        stack.enter_context(_kept_buffers(model))
        stack.enter_context(frozen_parameters(model))
        stack.enter_context(evaluation_mode(model))
        yield model


def training_submodules(model: nn.Module) -> list[str]:
    """Return the names of the submodules in training mode; the model itself is called ``(model)``."""
    return [name or "(model)" for name, module in model.named_modules() if getattr(module, "training", False)]


@contextmanager
def _kept_buffers(model: nn.Module) -> Iterator[None]:
    kept: list[tuple[Tensor, Tensor]] = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in kept:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)
