"""What a Dataset says of itself: the Dataset within a loader, and what its classes are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils.data import ConcatDataset, DataLoader, Subset

from robustprune.data.given_forms import LABEL_KEYS, is_map_style


def dataset_of(given: Any) -> Any:
    """Return the map-style Dataset that a loader reads, or the Dataset given; None where there is none."""
    found = getattr(given, "dataset", None) if isinstance(given, DataLoader) else given
    return found if is_map_style(found) else None


def known_names(given: Any) -> tuple[str, ...] | None:
    """Return the names of the classes that a Dataset tells, as torchvision's and Hugging Face's do, if it does.

    They are looked for within what leaves labels as they are: loaders, subsets, and joined Datasets that agree.
    """
    if isinstance(given, Mapping) or getattr(given, "target_transform", None) is not None:
        return None  # its labels are no longer those that the names are of
    features = getattr(given, "features", None)
    named = [features[key] for key in LABEL_KEYS if key in features] if isinstance(features, Mapping) else []
    names = getattr(named[0], "names", None) if named else getattr(given, "classes", None)
    if isinstance(names, list | tuple) and names and all(isinstance(name, str | tuple) for name in names):
        ordered = _in_order(names, getattr(given, "class_to_idx", None))
        return tuple(name if isinstance(name, str) else ", ".join(map(str, name)) for name in ordered)
    if isinstance(given, ConcatDataset):
        told = {known_names(each) for each in given.datasets}
        return next(iter(told)) if len(told) == 1 else None
    # What overrides how items are got may give them other labels.
    is_subset = isinstance(given, Subset) and type(given).__getitem__ is Subset.__getitem__
    return known_names(given.dataset) if is_subset or isinstance(given, DataLoader) else None


def _in_order(names: list[Any] | tuple[Any, ...], numbers: Any) -> list[Any]:
    """Return names in the order of their numbers, where a Dataset tells these too, one for each."""
    if isinstance(numbers, Mapping) and sorted(numbers.get(name, -1) for name in names) == [*range(len(names))]:
        return sorted(names, key=lambda name: int(numbers[name]))
    return list(names)
