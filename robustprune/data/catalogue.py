"""The image sets there are: their loaders, what they are, and whether they are on this machine."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from robustprune.data.contract import DatasetLoader
from robustprune.data.places import PLACES, folders, locate
from robustprune.errors import RobustPruneError
from robustprune.registry import Registry
from robustprune.runtime.files import user_path

_BUILTIN = {
    "digits": "robustprune.data.embedded:load_digits",
    "fashion-mnist": "robustprune.data.idx:load_fashion_mnist",
    "cifar10": "robustprune.data.cifar:load_cifar10",
    "cifar100": "robustprune.data.cifar:load_cifar100",
    "svhn": "robustprune.data.svhn:load_svhn",
    "tiny-imagenet": "robustprune.data.tiny_imagenet:load_tiny_imagenet",
    "imagefolder": "robustprune.data.folders:load_image_folder",
    "npz": "robustprune.data.npz:load_npz",
    "photo-patches": "robustprune.data.embedded:load_photo_patches",
    "noise": "robustprune.data.synthetic:load_noise",
    "uniform": "robustprune.data.synthetic:load_uniform",
    "constant": "robustprune.data.synthetic:load_constant",
}
# Built-in sets that take a path after a colon; the other built-in ones take nothing there.
TAKE_A_PATH = {"imagefolder": "DIR", "npz": "FILE"}
TAKE_NO_ARGUMENT = frozenset(_BUILTIN) - frozenset(TAKE_A_PATH)

DATASETS = Registry("data set", "robustprune.datasets", _BUILTIN)


class DatasetDescription(NamedTuple):
    """One line of a list of data sets."""

    name: str  # as it is typed, with what goes after the colon
    description: str
    available: bool | None  # None: it depends on the path given, or only the plug-in knows
    where: str  # the folder it is in, or where it is looked for


def register_dataset(name: str) -> Callable[[DatasetLoader], DatasetLoader]:
    """Return a decorator that makes a loader known under ``name`` in this process; see `DatasetLoader`."""
    return DATASETS.register(name)


def describe_datasets(
    root: str | Path | None = None, known: Mapping[str, str] | None = None
) -> list[DatasetDescription]:
    """Return every known image set with what it is and where it was found; no image is read or downloaded.

    Args:
        root: Where published sets are looked for first, as for `load_data`.
        known: Descriptions by name, of sets whose loaders need not be imported to ask them.
    """
    base = None if root is None else user_path(root).absolute()
    return [_describe(name, base, (known or {}).get(name)) for name in DATASETS.names()]


def _describe(name: str, root: Path | None, description: str | None) -> DatasetDescription:
    loader: Any = None
    if description is None:
        try:
            loader = DATASETS.get(name)
        except (RobustPruneError, ImportError, AttributeError) as error:
            return DatasetDescription(name, "a plug-in that cannot be loaded", False, str(error))
        description = (inspect.getdoc(loader) or "no description").splitlines()[0]
    if name in TAKE_A_PATH:
        return DatasetDescription(f"{name}:{TAKE_A_PATH[name]}", description, None, "the path you give")
    if name in PLACES:
        found = locate(name, root)
        where = str(found) if found else f"not in {', '.join(str(path) for path in folders(name, root))}"
        return DatasetDescription(name, description, found is not None, where)
    if name in TAKE_NO_ARGUMENT:
        return DatasetDescription(name, description, True, "embedded or synthetic")
    return DatasetDescription(name, description, None, f"plug-in {getattr(loader, '__module__', '')}".strip())
