"""Image sets as uint8 tensors: loading, splitting, augmenting, and where they came from."""

from robustprune.data.augment import augment, default_shift
from robustprune.data.catalogue import DATASETS, DatasetDescription, describe_datasets, register_dataset
from robustprune.data.contract import DatasetLoader, DatasetRequest, RawData
from robustprune.data.image_data import ImageData
from robustprune.data.load import canonical_name, load_data
from robustprune.data.pixels import convert_channels, resize_images
from robustprune.data.sample import Sample, take_sample
from robustprune.data.splits import Batch, InMemorySplit, Split
from robustprune.data.stratify import stratified_indices, stratified_per_class
from robustprune.data.streaming import StreamedSplit

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
