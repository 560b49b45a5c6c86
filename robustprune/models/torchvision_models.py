"""``torchvision:NAME``: any of torchvision's classifiers, randomly initialized, for any image set."""

from __future__ import annotations

import inspect
from typing import Any

from robustprune.errors import ModelError
from robustprune.models.adapter import AdaptedNetwork, fit_input_channels, refuse_weights
from robustprune.models.architecture import Architecture
from robustprune.models.normalization import Normalize
from robustprune.registry import suggest


def build_torchvision(architecture: Architecture) -> AdaptedNetwork:
    """Build ``torchvision:NAME`` with random weights, its first convolution fitted to the channels.

    Raises:
        ModelError: No such classifier, options it does not take, or an image size it cannot take.
    """
    from torchvision import models

    name = architecture.name.partition(":")[2]
    known = models.list_models(module=models)
    if name not in known:
        raise ModelError(
            f"torchvision has no classifier called {name!r}.{suggest(name, known)} It has: {', '.join(known)}."
        )
    refuse_weights(architecture)
    builder = models.get_model_builder(name)
    options: dict[str, Any] = {"weights": None, "num_classes": architecture.num_classes}
    if name.startswith("vit_"):
        options["image_size"] = architecture.image_size[0]
    if name in ("googlenet", "inception_v3"):
        # The auxiliary classifiers make the output a tuple in training mode.
        options |= {"aux_logits": False, "init_weights": True}
    try:
        network = builder(**{**options, **architecture.options})
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        accepted = ", ".join(inspect.signature(builder).parameters)
        raise ModelError(
            f"torchvision cannot build {name} for {architecture.image_size[0]}×{architecture.image_size[1]} "
            f"images with options {architecture.options}: {error}. Its builder takes: {accepted}."
        ) from error
    fit_input_channels(network, architecture.channels)
    return AdaptedNetwork(network, Normalize(architecture.mean, architecture.std))
