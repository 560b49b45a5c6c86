"""``timm:NAME``: any of timm's classifiers, randomly initialized, for any image set."""

from __future__ import annotations

from typing import Any

from torch import nn

from robustprune.errors import ModelError
from robustprune.models.adapter import AdaptedNetwork, import_quietly, refuse_weights
from robustprune.models.architecture import Architecture
from robustprune.models.normalization import Normalize
from robustprune.registry import suggest


def build_timm(architecture: Architecture) -> AdaptedNetwork:
    """Build ``timm:NAME`` with random weights for the channels, classes and image size of the data.

    timm's own names are taken, such as ``resnetv2_50``; a tag of pretrained weights (``.a1_in1k``) or a name of
    a remote repository (``hf-hub:…``) is none, so nothing is ever downloaded.

    Raises:
        MissingDependencyError: timm is not installed.
        ModelError: No such model, options it does not take, or an image size it cannot take.
    """
    timm = import_quietly("timm", architecture.name)
    name = architecture.name.partition(":")[2]
    known = timm.list_models()
    if name not in known:
        raise ModelError(
            f"timm has no model called {name!r}.{suggest(name, known)} It has {len(known)}; "
            "timm.list_models('*resnet*') in Python lists those of a kind."
        )
    refuse_weights(architecture)
    try:
        network = _create(timm, name, architecture)
    except Exception as error:  # every model checks its arguments in its own way
        raise ModelError(
            f"timm cannot build {name} for {architecture.image_size[0]}×{architecture.image_size[1]} images with "
            f"options {architecture.options}: {type(error).__name__}: {error}"
        ) from error
    return AdaptedNetwork(network, Normalize(architecture.mean, architecture.std))


def _create(timm: Any, name: str, architecture: Architecture) -> nn.Module:
    options: dict[str, Any] = {
        "num_classes": architecture.num_classes,
        "in_chans": architecture.channels,
        "img_size": architecture.image_size,
        **architecture.options,
    }
    try:
        network: nn.Module = timm.create_model(name, pretrained=False, **options)
    except TypeError as error:
        # Convolutional networks run at any size and do not take one.
        if "'img_size'" not in str(error) or "img_size" in architecture.options:
            raise
        del options["img_size"]
        network = timm.create_model(name, pretrained=False, **options)
    return network
