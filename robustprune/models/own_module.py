"""A module of the user's as a network that knows what images it takes: a copy of it that says so."""

from __future__ import annotations

from torch import nn

from robustprune.models.architecture import (
    MODULE_PREFIX,
    Architecture,
    ImageProperties,
    architecture_for,
    known_architecture,
    note_architecture,
)
from robustprune.models.networks import as_network, copy_network, network_name, to_evaluation, uncompiled
from robustprune.models.trial import check_logits_come_out


def for_images(model: nn.Module, images: ImageProperties) -> nn.Module:
    """Return a network that knows what images it takes: the model where it does, else a copy of it that does.

    Args:
        model: From :func:`robustprune.build_model`, or a module of one's own, which is left as it was.
        images: The image set, or the architecture of another network for the same images.

    Raises:
        ModelError: The module cannot be copied, does not run on such images, or has not a logit for each class.
    """
    network = _without_replicas(as_network(model))
    if known_architecture(network) is not None:
        return network
    return prepared(own_copy(network), architecture_beside(network, images))


def architecture_beside(model: nn.Module, images: ImageProperties) -> Architecture:
    """Return the architecture that a network knows, else one that stands for a module of one's own on such images."""
    known = known_architecture(model)
    return known or architecture_for(f"{MODULE_PREFIX}{network_name(_without_replicas(model))}", images)


def own_copy(model: nn.Module) -> nn.Module:
    """Return a copy of a module in evaluation mode, without what torch put around it to run it faster."""
    network = _without_replicas(as_network(model))
    copied = copy_network(network)
    for own, given in zip(copied.parameters(), network.parameters(), strict=True):
        own.requires_grad_(given.requires_grad)  # which copies of scripts lose
    return to_evaluation(uncompiled(copied))


def prepared(network: nn.Module, architecture: Architecture) -> nn.Module:
    """Let a network in evaluation mode know what images it takes, after trying it on two gray ones, and return it."""
    check_logits_come_out(network, architecture)
    note_architecture(network, architecture)
    return network


def _without_replicas(network: nn.Module) -> nn.Module:
    """Return what runs on several devices: a ticket is of that network, and is loaded into one."""
    while isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
        network = network.module
    return network
