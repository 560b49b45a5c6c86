"""What is done to a raw image set before use: splitting, limiting, converting, measuring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from robustprune.data.contract import RawData
from robustprune.data.pixels import channel_statistics, convert_channels, resize_images
from robustprune.data.splits import InMemorySplit, Split
from robustprune.data.stratify import hold_out, stratified_indices
from robustprune.data.streaming import StreamedSplit
from robustprune.errors import DataError

# Image files that would fill more memory than this stay on disk unless told otherwise.
_IN_MEMORY_BYTES = 2 * 1024**3
# Reading a whole set from disk for six numbers is not worth it; this many images give them to 1 %.
_STATISTICS_SAMPLE = 4096


def separate(raw: RawData, train_limit: int | None, validation_fraction: float, seed: int) -> dict[str, Split]:
    """Return the splits by name: validation held out unless the set ships it, then training limited."""
    splits = raw.splits()
    train = splits.get("train")
    if train is None:
        if train_limit is not None:
            raise DataError("a training limit was given, and the set has no training images to limit")
        return splits
    if "val" not in splits and validation_fraction > 0:
        kept, held = hold_out(train.labels, validation_fraction, seed)
        splits["val"] = train.subset(held)
        train = train.subset(kept)
    if train_limit is not None:
        try:
            train = train.subset(stratified_indices(train.labels, train_limit, seed))
        except DataError as error:
            raise DataError(f"the training limit does not fit the set: {error}") from error
    splits["train"] = train
    return splits


def stays_on_disk(
    splits: Mapping[str, Split], stream: bool | None, image_size: int | None, channels: int | None
) -> bool:
    """Return whether the splits are image files that are to be read as they are used."""
    if not all(isinstance(split, StreamedSplit) for split in splits.values()):
        return False
    if stream is not None:
        return stream
    found_channels, height, width = next(iter(splits.values())).shape
    pixels = (channels or found_channels) * (height * width if image_size is None else image_size**2)
    return pixels * sum(len(split) for split in splits.values()) > _IN_MEMORY_BYTES


def adapt(split: Split, image_size: int | None, channels: int | None, streamed: bool) -> Split:
    """Return the split with the channels and size asked for; the reader of a streamed one does both."""
    found_channels, height, width = split.shape
    wanted_channels = channels or found_channels
    size = (height, width) if image_size is None else (image_size, image_size)
    if isinstance(split, StreamedSplit):
        adapted = replace(split, channels=wanted_channels, image_size=size)
        return adapted if streamed else adapted.in_memory()
    images = resize_images(convert_channels(split.images, wanted_channels), size)
    return InMemorySplit(images, split.labels)


def statistics(splits: Mapping[str, Split], seed: int) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Return mean and deviation by channel and which images they are of: training, else test."""
    part = next(name for name in ("train", "test", "val") if name in splits)
    split = splits[part]
    if isinstance(split, StreamedSplit) and len(split) > _STATISTICS_SAMPLE:
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(split), generator=generator)[:_STATISTICS_SAMPLE].sort().values
        described = f"{_STATISTICS_SAMPLE} of {len(split)} {part} images"
        split = split.subset(chosen)
    else:
        described = f"{len(split)} {part} images"
    mean, std = channel_statistics(batch.images for batch in split.batches(512))
    return mean, std, described
