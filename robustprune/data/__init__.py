"""Image sets as uint8 tensors: loading, splitting, augmenting, and where they came from.

The names below are imported when they are first used, so that asking which sets there are does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustprune.data.augmentation import augment as augment
    from robustprune.data.augmentation import default_shift as default_shift
    from robustprune.data.contract import DatasetLoader as DatasetLoader
    from robustprune.data.contract import DatasetRequest as DatasetRequest
    from robustprune.data.contract import RawData as RawData
    from robustprune.data.given import AnyData as AnyData
    from robustprune.data.given import as_data as as_data
    from robustprune.data.given import read_images as read_images
    from robustprune.data.image_data import ImageData as ImageData
    from robustprune.data.image_data import Sample as Sample
    from robustprune.data.image_data import take_sample as take_sample
    from robustprune.data.load import canonical_name as canonical_name
    from robustprune.data.load import load_data as load_data
    from robustprune.data.pixels import convert_channels as convert_channels
    from robustprune.data.pixels import resize_images as resize_images
    from robustprune.data.registry import DATASETS as DATASETS
    from robustprune.data.registry import DatasetDescription as DatasetDescription
    from robustprune.data.registry import describe_datasets as describe_datasets
    from robustprune.data.registry import register_dataset as register_dataset
    from robustprune.data.shaping import build_model as build_model
    from robustprune.data.shaping import with_shape as with_shape
    from robustprune.data.splits import Batch as Batch
    from robustprune.data.splits import InMemorySplit as InMemorySplit
    from robustprune.data.splits import Split as Split
    from robustprune.data.stratify import stratified_indices as stratified_indices
    from robustprune.data.stratify import stratified_per_class as stratified_per_class
    from robustprune.data.streaming import StreamedSplit as StreamedSplit

_HOMES = {
    name: home
    for home, names in {
        "augmentation": "augment default_shift",
        "contract": "DatasetLoader DatasetRequest RawData",
        "given": "AnyData as_data read_images",
        "image_data": "ImageData Sample take_sample",
        "load": "canonical_name load_data",
        "pixels": "convert_channels resize_images",
        "registry": "DATASETS DatasetDescription describe_datasets register_dataset",
        "shaping": "build_model with_shape",
        "splits": "Batch InMemorySplit Split",
        "stratify": "stratified_indices stratified_per_class",
        "streaming": "StreamedSplit",
    }.items()
    for name in names.split()
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"robustprune.data.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
