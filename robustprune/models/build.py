"""From a model's name and an image set to a network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch import nn

from robustprune.errors import ModelError
from robustprune.models.architecture import Architecture, ImageProperties, architecture_for, known_architecture
from robustprune.models.libraries import download_robustbench
from robustprune.models.networks import lazy_layers, network_name, to_evaluation
from robustprune.models.trial import check_output, run_first_images
from robustprune.models.weight_files import load_weights
from robustprune.registry import Registry, read_options, read_tables
from robustprune.runtime.randomness import derive_seed, isolated_generators

MODELS = Registry("model", "robustprune.models", read_tables("models")["PLUGINS"])
"""Builders: callables from an :class:`Architecture` to an nn.Module from [0, 1] images to logits."""


def build_model(
    name: str,
    data: ImageProperties,
    *,
    seed: int = 0,
    weights_file: str | Path | None = None,
    download: bool = False,
    **options: Any,
) -> nn.Module:
    """Return a network for an image set; :func:`robustprune.data.build_model` reads images in hand for it.

    Options may be written behind the name, ``resnet32:width=32``, where they count.

    Raises:
        UnknownNameError: No model of that name.
        ModelError: The network cannot be built so, or does not run on such images; or they are all of one class.
    """
    name, own = read_options(name)
    if own:
        if taken := own.keys() & {"name", "data", "seed"}:
            raise ModelError(f"{name}: {min(taken)} is no option of a network, see `robustprune train --help`")
        given: dict[str, Any] = {"weights_file": weights_file, "download": download, **options, **own}
        return build_model(name, data, seed=seed, **given)
    if data.num_classes < 2:
        raise ModelError(
            f"{name} cannot be shaped for images of one class: a network is trained on two or more; if they "
            "come from a folder, it may be one too deep"
        )
    architecture = architecture_for(name, data, **options)
    network = build_network(architecture, seed=seed)
    if download not in (True, False):
        raise ModelError(f"download={download!r} is neither 1 nor 0")
    if weights_file is not None and not (isinstance(weights_file, (str, os.PathLike)) and str(weights_file).strip()):
        raise ModelError(f"weights_file={weights_file!r} names no file; give its path as text")
    if weights_file is not None or download:
        load_weights(network, download_robustbench(architecture) if weights_file is None else weights_file)
    check_output(network, architecture)
    return network


def build_network(architecture: Architecture, *, seed: int = 0) -> nn.Module:
    """Build the network of an architecture; as :func:`build_model`, without the trial run."""
    builder, (plain, colon, _) = MODELS.get(architecture.name), architecture.name.partition(":")
    if colon and plain in MODELS.builtin and not MODELS.builtin[plain].argument:
        raise ModelError(
            f"the network {plain!r} takes no argument after a colon, got {architecture.name!r}; an option is written "
            f"{plain}:key=value"
        )
    with isolated_generators(derive_seed(seed, "weights")):
        network: nn.Module = builder(architecture)
        if lazy_layers(network):
            run_first_images(network, architecture)
    network.architecture = architecture  # type: ignore[assignment]
    network.initial_seed = seed  # type: ignore[assignment]
    return to_evaluation(network)


def architecture_of(model: nn.Module) -> Architecture:
    """Return the architecture of a network: what it was built from, or what images a module of one's own takes.

    Raises:
        ModelError: It does not know, as a module that was handed over without images.
    """
    architecture = known_architecture(model)
    if architecture is None:
        raise ModelError(
            f"this {network_name(model)} does not know how it was built, nor what images it takes; give it the image "
            "set (data=…), or some images where there is an argument for an example (example=images[:2])"
        )
    return architecture
