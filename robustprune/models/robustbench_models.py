"""``robustbench:NAME``: architectures and published weights of RobustBench's model zoo (arXiv:2010.09670).

The one module that touches the package robustbench, and only when such a model is asked for. What it works around,
as of robustbench 1.1.1: its front door imports a module ``autoattack``, which PyPI installs as ``pyautoattack``;
its loader unpickles what it downloads; some entries of the zoo download while they are built; importing it warns
about its own dependencies.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from robustprune.errors import ModelError
from robustprune.models.adapter import AdaptedNetwork, import_quietly
from robustprune.models.architecture import Architecture
from robustprune.registry import suggest

_DATASETS = {10: "cifar10", 100: "cifar100"}


class RobustBenchOptions(BaseModel):
    """What ``build_model("robustbench:NAME", …)`` takes beside the data set, and a ticket keeps."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    threat_model: str = "Linf"


def build_robustbench(architecture: Architecture) -> AdaptedNetwork:
    """Build ``robustbench:NAME``; random weights unless weights_file=PATH or download=1 gives the published ones.

    The zoo's networks take images in [0, 1] and normalize them by themselves, so no normalization is added. The
    zoo is CIFAR-10's or CIFAR-100's after the number of classes; ``threat_model`` (``Linf``, ``L2``,
    ``corruptions``) chooses the list within it. Building never downloads.

    Raises:
        MissingDependencyError: robustbench or what it imports is not installed.
        ModelError: No such entry, images that are not CIFAR's, other options, or an entry that cannot be built.
    """
    name, dataset, threat_model = _place(architecture)
    entry = _entry(architecture)
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


def download_robustbench(architecture: Architecture, folder: Path) -> Path:
    """Return the file with the published weights of an entry, fetched into ``folder`` unless it is there.

    Raises:
        ModelError: The entry has no single file, or fetching fails.
    """
    name, dataset, threat_model = _place(architecture)
    address = _entry(architecture)["gdrive_id"]
    if not isinstance(address, str):
        raise ModelError(
            f"the weights of {architecture.name} are not one file that can be downloaded; fetch them by hand and give "
            "weights_file=PATH, or choose another entry"
        )
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


def _place(architecture: Architecture) -> tuple[str, str, str]:
    """Return an entry's name, data set and threat model."""
    dataset = _DATASETS.get(architecture.num_classes)
    if dataset is None or architecture.channels != 3 or architecture.image_size != (32, 32):
        height, width = architecture.image_size
        raise ModelError(
            f"{architecture.name}: RobustBench's networks here are for CIFAR-10 and CIFAR-100, 3×32×32 images of 10 or "
            f"100 classes; these are {architecture.channels}×{height}×{width} images of {architecture.num_classes} "
            "classes; convert with --image-size 32 --channels 3, or use wrn-28-10"
        )
    try:
        options = RobustBenchOptions.model_validate(architecture.options)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ModelError(
            f"{architecture.name}: option {'.'.join(map(str, problem['loc']))!r}: {problem['msg'].lower()}; "
            "an architecture takes only 'threat_model'; weights_file and download are no part of one"
        ) from error
    return architecture.name.partition(":")[2], dataset, options.threat_model


def _entry(architecture: Architecture) -> dict[str, Any]:
    name, dataset, threat_model = _place(architecture)
    with _autoattack_by_its_other_name():
        import_quietly("robustbench", architecture.name)
    zoo = import_quietly("robustbench.model_zoo.models", architecture.name).model_dicts
    lists = next(
        {threat.value: entries for threat, entries in found.items()}
        for key, found in zoo.items()
        if key.value == dataset
    )
    if threat_model not in lists:
        raise ModelError(f"RobustBench has no {threat_model!r} list for {dataset}; it has: {', '.join(lists)}")
    if name not in lists[threat_model]:
        known = list(lists[threat_model])
        raise ModelError(
            f"RobustBench's {threat_model} list for {dataset} has no model called {name!r}.{suggest(name, known)} "
            f"It has: {', '.join(known)}."
        )
    return dict(lists[threat_model][name])


@contextlib.contextmanager
def _autoattack_by_its_other_name() -> Iterator[None]:
    """Let ``import autoattack`` find pyautoattack; nothing of it stays behind."""
    if "robustbench" in sys.modules or find_spec("autoattack") is not None:
        yield
        return
    package = import_quietly("pyautoattack", "robustbench")
    aliases = {"autoattack": package, "autoattack.state": import_quietly("pyautoattack.state", "robustbench")}
    sys.modules.update(aliases)
    try:
        yield
    finally:
        for alias in aliases:
            sys.modules.pop(alias, None)
