"""Trying a network that was just built on two gray images: do logits come out, in evaluation and in training?"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.errors import ModelError, ModelWarning
from robustprune.models.adapter import AdaptedNetwork
from robustprune.models.architecture import Architecture
from robustprune.models.forward import channels_last, model_device, model_type, run_model
from robustprune.models.networks import copy_network, evaluation_mode, reason_of, to_evaluation, uncompiled
from robustprune.models.returned import pick_logits
from robustprune.runtime.randomness import isolated_generators


def check_logits_come_out(network: nn.Module, architecture: Architecture) -> Tensor:
    """Run two gray images through a network in evaluation mode and return the logits, one for each class.

    Raises:
        ModelError: It does not run on such images, or has not a logit for each class, or the one of two classes.
    """
    name, images = architecture.called, _gray_images(architecture)
    try:
        with torch.no_grad(), isolated_generators(0, model_device(network)):
            outputs = network(images.to(model_device(network), model_type(network)))
    except Exception as error:
        shape = "×".join(map(str, images.shape[1:]))
        raise ModelError(f"{name} does not run on {shape} images: {reason_of(error)}") from error
    logits = pick_logits(outputs)
    if problem := _no_logits(logits, architecture):
        if isinstance(logits, Tensor) and logits.ndim == 2:
            count, classes = logits.shape[1], architecture.num_classes
            problem = (
                f"has {count} logit{'s' if count > 1 else ''} and the images are of {classes} classes; give its last "
                "layer as many outputs as there are classes"
            )
        raise ModelError(f"{name} {problem}")
    return run_model(network, images.to(model_device(network)))  # which refuses a probability in place of a logit


def check_output(network: nn.Module, architecture: Architecture) -> None:
    """Run two gray images through a network and check that logits come out; it is left as it was.

    What comes out in training mode is looked at on a copy, and a warning says where it is not logits alone.
    """
    logits = check_logits_come_out(network, architecture)
    # −∞ masks a class.
    if not bool(logits.amax(dim=1).isfinite().all()):
        shape = "×".join(map(str, (architecture.channels, *architecture.image_size)))
        raise ModelError(
            f"{architecture.called} returns numbers that are not finite for {shape} images, which are probably too "
            "small for it; choose larger ones with --image-size"
        )
    try:
        further = check_training(network, architecture)
    except ModelError as error:
        said = f"{error}; it can be used, but not trained"
    else:
        said = (
            f"{architecture.called} returns {further + 1} outputs in training mode; the first is taken for the logits, "
            "and nothing is learned from the others"
        )
        if not further:
            return
    warnings.warn(said, ModelWarning, stacklevel=3)


def check_training(network: nn.Module, architecture: Architecture) -> int:
    """Check, on a copy, that a network returns logits in training mode too; return how many other outputs follow them.

    Raises:
        ModelError: It does not, or it fails in training mode.
    """
    name = architecture.called
    with isolated_generators(0, model_device(network)), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says of checkpoints without gradients
        trained = channels_last(uncompiled(copy_network(network)))
        images = _gray_images(architecture).to(model_device(network), model_type(network))
        try:
            with evaluation_mode(network):
                network.train()  # which exported networks refuse, and copies of them do not
            trained.train()
            found = trained.outputs(images) if isinstance(trained, AdaptedNetwork) else trained(images)
        except Exception as error:
            raise ModelError(f"{name} does not run in training mode: {reason_of(error)}") from error
    several = isinstance(found, tuple | list) and len(found) > 0
    if problem := _no_logits(pick_logits(found), architecture):
        which = "the first of what it returns is no logits: it " if several else ""
        raise ModelError(
            f"{name}, in training mode: {which}{problem}; leave auxiliary outputs out (aux_logits=False), or wrap the "
            "network in a module that returns the logits alone"
        )
    return len(found) - 1 if several else 0


def _gray_images(architecture: Architecture) -> Tensor:
    # As they lie in training, which hooks may look at.
    images = torch.full((2, architecture.channels, *architecture.image_size), 0.5)
    return images.contiguous(memory_format=torch.channels_last)


def _no_logits(found: Any, architecture: Architecture) -> str | None:
    """Return in words what an output for two images is, if it is no logits: one a class, or one for two classes."""
    fitting = {(2, architecture.num_classes)} | ({(2,), (2, 1)} if architecture.num_classes == 2 else set())
    if isinstance(found, Tensor) and tuple(found.shape) in fitting and found.is_floating_point():
        return None
    what = f"{found.dtype} of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
    return f"returned {what} for two images; expected logits of shape (2, {architecture.num_classes})"


def run_first_images(network: nn.Module, architecture: Architecture) -> None:
    """Give lazy layers their weights, which are drawn as the first images come."""
    try:
        with torch.no_grad():
            to_evaluation(network)(_gray_images(architecture))
    except Exception as error:
        raise ModelError(f"{architecture.called} does not run on its first images: {reason_of(error)}") from error
