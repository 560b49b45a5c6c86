"""Image sets as uint8 tensors: loading, splitting, augmenting, and where they came from.

The names below are imported when they are first used, so that asking which sets there are does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustprune.data.augmentation import augment, default_shift
    from robustprune.data.contract import DatasetLoader, DatasetRequest, RawData
    from robustprune.data.image_data import ImageData, Sample, take_sample
    from robustprune.data.load import canonical_name, load_data
    from robustprune.data.pixels import convert_channels, resize_images
    from robustprune.data.registry import DATASETS, DatasetDescription, describe_datasets, register_dataset
    from robustprune.data.splits import Batch, InMemorySplit, Split
    from robustprune.data.stratify import stratified_indices, stratified_per_class
    from robustprune.data.streaming import StreamedSplit

_HOMES = {
    "augmentation": ("augment", "default_shift"),
    "contract": ("DatasetLoader", "DatasetRequest", "RawData"),
    "image_data": ("ImageData", "Sample", "take_sample"),
    "load": ("canonical_name", "load_data"),
    "pixels": ("convert_channels", "resize_images"),
    "registry": ("DATASETS", "DatasetDescription", "describe_datasets", "register_dataset"),
    "splits": ("Batch", "InMemorySplit", "Split"),
    "stratify": ("stratified_indices", "stratified_per_class"),
    "streaming": ("StreamedSplit",),
}

__all__ = [
    "DATASETS",
    "Batch",
    "DatasetDescription",
    "DatasetLoader",
    "DatasetRequest",
    "ImageData",
    "InMemorySplit",
    "RawData",
    "Sample",
    "Split",
    "StreamedSplit",
    "augment",
    "canonical_name",
    "convert_channels",
    "default_shift",
    "describe_datasets",
    "load_data",
    "register_dataset",
    "resize_images",
    "stratified_indices",
    "stratified_per_class",
    "take_sample",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"robustprune.data.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
