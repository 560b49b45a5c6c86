"""Classifiers of other packages, imported only when one is asked for: torchvision's, timm's and RobustBench's zoo.

What is worked around of robustbench 1.1.1 (arXiv:2010.09670): its front door imports a module ``autoattack``, which
PyPI installs as ``pyautoattack``; its loader unpickles what it downloads; some entries of the zoo download while they
are built; importing it warns about its own dependencies.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from torch import nn

from robustprune.errors import ModelError
from robustprune.models.adapter import AdaptedNetwork, Normalize
from robustprune.models.architecture import Architecture
from robustprune.registry import missing_package, suggest
from robustprune.runtime.files import user_path

_WEIGHT_OPTIONS = ("pretrained", "weights", "checkpoint", "cache_dir", "hf_", "url", "file", "download")
_DATASETS = {10: "cifar10", 100: "cifar100"}  # RobustBench's lists, by number of classes


def import_quietly(module: str, model: str) -> Any:
    """Import a module for ``timm:NAME`` or ``robustbench:NAME``, without the warnings that its own imports raise.

    Raises:
        MissingDependencyError: It is not installed; the extra to install is called like the family of the model.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module(module)
    except ModuleNotFoundError as error:
        package, extra = (error.name or module).partition(".")[0], model.partition(":")[0]
        raise missing_package(f"model {model!r}", package, extra=extra) from error


def _refuse_weights(architecture: Architecture) -> None:
    """Refuse options that would fetch or read weights: options are in tickets, and a ticket must do neither."""
    for option in architecture.options:
        if option.startswith(_WEIGHT_OPTIONS):
            raise ModelError(
                f"{architecture.name}: pretrained weights cannot be chosen by the option {option!r}: a ticket starts "
                "from random ones, and nothing is downloaded unasked; weights in a file are --weights FILE "
                "(weights_file=FILE in Python)"
            )


def build_torchvision(architecture: Architecture) -> AdaptedNetwork:
    """Build ``torchvision:NAME`` with random weights, its first convolution fitted to the channels."""
    from torchvision import models

    name = architecture.name.partition(":")[2]
    known = models.list_models(module=models)
    if name not in known:
        raise ModelError(
            f"torchvision has no classifier called {name!r}.{suggest(name, known)} It has: {', '.join(known)}."
        )
    _refuse_weights(architecture)
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
        raise _cannot_build("torchvision", name, architecture, f"{error}. Its builder takes: {accepted}.") from error
    _fit_input_channels(network, architecture.channels)
    return AdaptedNetwork(network, Normalize(architecture.mean, architecture.std))


def _cannot_build(library: str, name: str, architecture: Architecture, why: str) -> ModelError:
    height, width = architecture.image_size
    return ModelError(
        f"{library} cannot build {name} for {height}×{width} images with options {architecture.options}: {why}"
    )


def _fit_input_channels(network: nn.Module, channels: int) -> None:
    """Replace the first convolution, freshly initialized, where it takes another number of channels."""
    name, first = next((name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d))
    if first.in_channels == channels:
        return
    fitted = nn.Conv2d(
        channels,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]
        stride=first.stride,  # type: ignore[arg-type]
        padding=first.padding,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    nn.init.kaiming_normal_(fitted.weight, mode="fan_out", nonlinearity="relu")
    network.set_submodule(name, fitted)


def build_timm(architecture: Architecture) -> AdaptedNetwork:
    """Build ``timm:NAME`` with random weights for the channels, classes and image size of the data.

    timm's own names are taken, such as ``resnetv2_50``; a tag of pretrained weights (``.a1_in1k``) or a name of
    a remote repository (``hf-hub:…``) is none, so nothing is ever downloaded.
    """
    timm = import_quietly("timm", architecture.name)
    name = architecture.name.partition(":")[2]
    known = timm.list_models()
    if name not in known:
        raise ModelError(
            f"timm has no model called {name!r}.{suggest(name, known)} It has {len(known)}; "
            "timm.list_models('*resnet*') in Python lists those of a kind."
        )
    _refuse_weights(architecture)
    options = {"num_classes": architecture.num_classes, "in_chans": architecture.channels, **architecture.options}
    try:
        try:
            network = timm.create_model(name, pretrained=False, **{"img_size": architecture.image_size, **options})
        except TypeError as error:
            # Convolutional networks run at any size and do not take one.
            if "'img_size'" not in str(error) or "img_size" in options:
                raise
            network = timm.create_model(name, pretrained=False, **options)
    except Exception as error:  # every model checks its arguments in its own way
        raise _cannot_build("timm", name, architecture, f"{type(error).__name__}: {error}") from error
    return AdaptedNetwork(network, Normalize(architecture.mean, architecture.std))


class _ZooOptions(BaseModel):
    """What ``build_model("robustbench:NAME", …)`` takes beside the data set, and a ticket keeps."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    threat_model: str = "Linf"


def build_robustbench(architecture: Architecture) -> AdaptedNetwork:
    """Build ``robustbench:NAME``; random weights unless weights_file=PATH or download=1 gives the published ones.

    The zoo's networks take images in [0, 1] and normalize them by themselves, so no normalization is added. The
    zoo is CIFAR-10's or CIFAR-100's after the number of classes; ``threat_model`` (``Linf``, ``L2``,
    ``corruptions``) chooses the list within it. Building never downloads.
    """
    (name, dataset, threat_model), entry = _entry(architecture)
    timm = import_quietly("timm", architecture.name)
    registered = f"{name.lower().replace('-', '_')}_{dataset}_{threat_model.lower()}"
    try:
        if timm.is_model(registered):
            # As in robustbench's loader, but without weights; the entry itself would download them.
            network: nn.Module = timm.create_model(registered, num_classes=architecture.num_classes, pretrained=False)
        elif entry["gdrive_id"] is None:
            raise ModelError(f"{architecture.name} cannot be built without downloading its weights")
        else:
            network = entry["model"]()
    except ModelError:
        raise
    except Exception as error:  # a zoo of a hundred authors
        raise ModelError(f"robustbench cannot build {name}: {type(error).__name__}: {error}") from error
    return AdaptedNetwork(network, None)


def download_robustbench(architecture: Architecture) -> Path:
    """Return the file with an entry's published weights, fetched into ``$ROBUSTPRUNE_MODELS`` unless it is there."""
    if not architecture.name.startswith("robustbench:"):
        raise ModelError(f"there is nothing to download for {architecture.name}; only robustbench:NAME has weights")
    (name, dataset, threat_model), entry = _entry(architecture)
    address = entry["gdrive_id"]
    if not isinstance(address, str):
        raise ModelError(
            f"the weights of {architecture.name} are not one file that can be downloaded; fetch them by hand and give "
            "weights_file=PATH, or choose another entry"
        )
    folder = user_path(os.environ.get("ROBUSTPRUNE_MODELS") or "~/.cache/robustprune/models")
    path = folder / dataset / threat_model / f"{name}.pt"
    if not path.is_file():
        partial = path.with_suffix(".partial")
        gdown = import_quietly("gdown", architecture.name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.redirect_stdout(sys.stderr):
                gdown.download(id=address, output=str(partial))
            partial.replace(path)
        except Exception as error:  # network, quota and disk errors are all of different kinds
            raise ModelError(f"downloading the weights of {architecture.name} failed: {error}") from error
        finally:
            partial.unlink(missing_ok=True)
    return path


def _entry(architecture: Architecture) -> tuple[tuple[str, str, str], dict[str, Any]]:
    """Return an entry's name, data set and threat model, and what the zoo has there."""
    name, dataset = architecture.name.partition(":")[2], _DATASETS.get(architecture.num_classes)
    if dataset is None or architecture.channels != 3 or architecture.image_size != (32, 32):
        height, width = architecture.image_size
        raise ModelError(
            f"{architecture.name}: RobustBench's networks here are for CIFAR-10 and CIFAR-100, 3×32×32 images of 10 or "
            f"100 classes; these are {architecture.channels}×{height}×{width} images of {architecture.num_classes} "
            "classes; convert with --image-size 32 --channels 3, or use wrn-28-10"
        )
    takes = "an architecture takes only 'threat_model'; weights_file and download are no part of one"
    threat_model = architecture.options_as(_ZooOptions, takes).threat_model
    with _autoattack_by_its_other_name(architecture.name):
        import_quietly("robustbench", architecture.name)
    zoo = import_quietly("robustbench.model_zoo.models", architecture.name).model_dicts
    lists = {threat.value: each for key, found in zoo.items() if key.value == dataset for threat, each in found.items()}
    if threat_model not in lists:
        raise ModelError(f"RobustBench has no {threat_model!r} list for {dataset}; it has: {', '.join(lists)}")
    entries = lists[threat_model]
    if name not in entries:
        raise ModelError(
            f"RobustBench's {threat_model} list for {dataset} has no model called {name!r}.{suggest(name, entries)} "
            f"It has: {', '.join(entries)}."
        )
    return (name, dataset, threat_model), entries[name]


@contextlib.contextmanager
def _autoattack_by_its_other_name(model: str) -> Iterator[None]:
    """Let ``import autoattack`` find pyautoattack; nothing of it stays behind."""
    if "robustbench" in sys.modules or find_spec("robustbench") is None or find_spec("autoattack") is not None:
        yield
        return
    aliases = {
        "autoattack": import_quietly("pyautoattack", model),
        "autoattack.state": import_quietly("pyautoattack.state", model),
    }
    sys.modules.update(aliases)
    try:
        yield
    finally:
        for alias in aliases:
            sys.modules.pop(alias, None)
