"""Networks from elsewhere, given what every network here has: [0, 1] images in, penultimate features out."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from robustprune.errors import ModelError
from robustprune.models.architecture import Architecture
from robustprune.models.normalization import Normalize
from robustprune.registry import missing_package

_WEIGHT_OPTIONS = ("pretrained", "weights", "checkpoint", "cache_dir", "hf_", "url", "file", "download")


def import_quietly(module: str, needed_by: str) -> Any:
    """Import a module of another package, without the warnings that its own imports raise.

    Raises:
        MissingDependencyError: It is not installed, or one that it needs is not.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module(module)
    except ModuleNotFoundError as error:
        raise missing_package(f"model {needed_by!r}", (error.name or module).partition(".")[0]) from error


def refuse_weights(architecture: Architecture) -> None:
    """Refuse options that would fetch or read weights: options are in tickets, and a ticket must do neither.

    Raises:
        ModelError: There is such an option.
    """
    for option in architecture.options:
        if option.startswith(_WEIGHT_OPTIONS):
            raise ModelError(
                f"{architecture.name}: pretrained weights cannot be chosen by the option {option!r}: a ticket starts "
                "from random ones, and nothing is downloaded unasked; for a network with weights of your own use "
                "file:PATH:NAME"
            )


def last_linear(network: nn.Module) -> nn.Linear:
    """Return the last fully connected layer of a classifier, in order of definition.

    Raises:
        ModelError: There is none.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ModelError(
            f"{type(network).__name__} has no fully connected layer, so it has no penultimate features; "
            "only classifiers that end in nn.Linear are supported here"
        )
    return layers[-1]


class AdaptedNetwork(nn.Module):
    """A foreign classifier behind an optional normalization layer."""

    def __init__(self, network: nn.Module, normalize: Normalize | None) -> None:
        """Wrap a network; ``normalize`` None where it does its own normalization."""
        super().__init__()
        self.normalize = normalize if normalize is not None else nn.Identity()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, C, H, W) in [0, 1].

        In training some classifiers return a tuple of logits and what auxiliary classifiers say (Szegedy et al. 2015,
        arXiv:1409.4842, section 5), of which the first counts here.
        """
        outputs = self.outputs(images)
        logits: Tensor = outputs[0] if self.training and isinstance(outputs, tuple | list) else outputs
        return logits

    def outputs(self, images: Tensor) -> Any:
        """Return whatever the network itself returns."""
        return self.network(self.normalize(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """Return what the last fully connected layer receives: (N, features)."""
        caught: list[Tensor] = []

        def catch(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            caught.append(inputs[0])

        handle = last_linear(self.network).register_forward_pre_hook(catch)
        try:
            self.forward(images)
        finally:
            handle.remove()
        return caught[-1]


def fit_input_channels(network: nn.Module, channels: int) -> None:
    """Replace the first convolution, freshly initialized, where it takes another number of channels."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels != channels:
                _replace(network, name, _like(module, channels))
            return


def _like(convolution: nn.Conv2d, channels: int) -> nn.Conv2d:
    if convolution.groups != 1:
        raise ModelError(
            f"the first convolution is grouped and takes {convolution.in_channels} channels, not {channels}"
        )
    replacement = nn.Conv2d(
        channels,
        convolution.out_channels,
        convolution.kernel_size,  # type: ignore[arg-type]
        stride=convolution.stride,  # type: ignore[arg-type]
        padding=convolution.padding,  # type: ignore[arg-type]
        dilation=convolution.dilation,  # type: ignore[arg-type]
        bias=convolution.bias is not None,
        padding_mode=convolution.padding_mode,
    )
    nn.init.kaiming_normal_(replacement.weight, mode="fan_out", nonlinearity="relu")
    return replacement


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, module)
