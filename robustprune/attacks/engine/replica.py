"""The frozen copy that is attacked in place of a model, because it computes the same faster."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from robustprune.errors import ModelError, ModelWarning
from robustprune.inference import TOLERANCE, Packed, freeze, tolerance_of
from robustprune.models import FunctionNetwork, logit_gap, network_name, run_model
from robustprune.runtime.randomness import isolated_generators, seeded_generator

PROBES = 16
MOST_TURN = 0.01
"""How far a gradient may be from the copy's, as a share of its length: a ReLU's may fall to the other side at zero."""


class Replica:
    """Makes the frozen copy of a model when it is first needed."""

    def __init__(self, model: nn.Module, wanted: bool) -> None:
        """Copy ``model`` if ``wanted``, and if it can be copied, as plain functions cannot."""
        can_be_copied = not any(isinstance(module, FunctionNetwork) for module in model.modules())
        self._model, self._wanted = model, wanted and can_be_copied
        self._copy: nn.Module | None = None

    @property
    def is_used(self) -> bool:
        """Whether a copy was attacked."""
        return self._copy is not None and self._copy is not self._model

    def get(self, images: Tensor) -> nn.Module:
        """Return the copy, compared with the model on some of the images (n, …), or the model itself."""
        if self._copy is None:
            self._copy = self._make(images[:PROBES]) if self._wanted else self._model
        return self._copy

    def _make(self, images: Tensor) -> nn.Module:
        try:
            copy = freeze(self._model, images)
            gap = _gap(self._model, copy, images)
        except ModelError as error:
            problem = str(error)
        else:
            if gap <= tolerance_of(self._model, images, gap):
                return _packed(copy, images)
            problem = f"its logits differ from the model's by {gap:.2g} of the largest"
        warnings.warn(
            f"no frozen copy of this {network_name(self._model)} can be attacked in its place ({problem}); the "
            "model itself is attacked, which comes to the same but takes longer",
            ModelWarning,
            stacklevel=2,
        )
        return self._model


def _packed(copy: nn.Module, images: Tensor) -> nn.Module:
    """Return the copy with packed convolutions, where that can be done and comes to the same."""
    if images.device.type != "cpu":
        return copy
    try:
        packed = Packed(copy)
        slopes, found = (_slopes(network, images) for network in (copy, packed))
        turn = float((found - slopes).norm())
        is_same = _gap(copy, packed, images) <= TOLERANCE and turn <= MOST_TURN * float(slopes.norm())
    except Exception:  # tracing runs the network's own code, which may do anything
        return copy
    return packed if is_same else copy


def _slopes(network: nn.Module, images: Tensor) -> Tensor:
    """Return the gradient (n, …) of a sum of the logits with weights of both signs."""
    images = images.detach().requires_grad_()
    with isolated_generators(0):
        logits = run_model(network, images)
    weights = torch.randn(logits.shape, generator=seeded_generator("slopes"))
    (found,) = torch.autograd.grad((logits * weights).sum(), images)
    return found


def _gap(model: nn.Module, copy: nn.Module, images: Tensor) -> float:
    """Return the largest difference between logits, as a share of the largest logit."""
    logits = []
    for network in (model, copy):
        # A network that draws random numbers draws the same ones twice.
        with torch.no_grad(), isolated_generators(0):
            logits.append(run_model(network, images))
    return logit_gap(*logits)
