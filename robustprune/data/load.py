"""From a name to an image set: find it, split it, bring it to size, and write down what was done."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch

from robustprune.data.contract import DatasetLoader, DatasetRequest, RawData
from robustprune.data.image_data import ImageData
from robustprune.data.pixels import INTERPOLATION, channel_statistics, convert_channels, resize_images
from robustprune.data.registry import DATASETS
from robustprune.data.splits import InMemorySplit, Split
from robustprune.data.stratify import hold_out, stratified_indices
from robustprune.data.streaming import StreamedSplit
from robustprune.errors import DataError, DataWarning
from robustprune.runtime.files import user_path
from robustprune.runtime.progress import counted, shown_progress

_SMALLEST_SIDE = 8
# Image files that would fill more memory than this stay on disk unless told otherwise.
IN_MEMORY_BYTES = 2 * 1024**3
# Reading a whole set from disk for six numbers is not worth it; this many images give them to 1 %.
_STATISTICS_SAMPLE = 4096
_STATISTICS_BATCH = 256


def load_data(
    name: str = "digits",
    *,
    root: str | Path | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    train_limit: int | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
    download: bool = False,
    stream: bool | None = None,
    workers: int = 0,
) -> ImageData:
    """Return an image set with training, validation and test splits, as far as it has them.

    The validation split is held out first, stratified; ``train_limit`` then takes from what is left. So the
    validation images are the same at every limit, and a smaller limit's images are part of a larger one's.
    Both depend only on the seed and the labels, not on the platform.

    Args:
        name: A name of `describe_datasets`, with a path after a colon where it takes one.
        root: Folder to look in before the usual ones.
        image_size: Side in pixels to resize to, at least 8, by antialiased bilinear interpolation.
        channels: 1 or 3 to convert to grey (ITU-R BT.601 luma) or colour (by repetition).
        train_limit: Number of training images to keep, in proportion to the classes, at least one of each.
        validation_fraction: Part of the training images held out, 0 to 0.5. A set that ships a validation
            split keeps it, and nothing is held out.
        seed: Of the validation split, the limit, and sets that are made up; not negative.
        download: Whether a missing set may be downloaded, where a downloader exists.
        stream: Whether image files stay on disk and are read as they are used. By default only sets that
            would take more than 2 GiB. Sets that are not image files are always in memory.
        workers: Processes that read image files; 0 reads in this one.

    Raises:
        DataError: The set is missing or damaged, or cannot be had as asked; the message says what to do. Also one
            whose training images are all of one class.
        UnknownNameError: There is no set of that name.

    Warns:
        DataWarning: Images were left out, or a class has no image in some split.
    """
    if not isinstance(name, str):
        raise DataError(f"an image set is named by a text such as digits, npz:FILE or imagefolder:DIR, got {name!r}")
    _check(image_size=image_size, channels=channels, train_limit=train_limit, seed=seed, workers=workers)
    if not isinstance(validation_fraction, Real) or not 0 <= validation_fraction <= 0.5:
        raise DataError(f"validation fraction {validation_fraction!r} is not a number between 0 and 0.5")
    if root is not None and not str(root).strip():
        raise DataError("the folder to look for the data set in has an empty name; leave root out for the usual places")
    folder = None if root is None else user_path(root).resolve()
    request = DatasetRequest(name, folder, image_size, channels, seed, download, workers)
    load: DatasetLoader = DATASETS.get(name)
    key, colon, _ = name.partition(":")
    if colon and key in DATASETS.builtin and not DATASETS.builtin[key].argument:
        raise DataError(f"data set {key!r} takes nothing after a colon; found {name!r}")
    raw = load(request)
    say_what_is_empty(name, raw)
    splits = _adapt(_separate(raw, train_limit, validation_fraction, seed), image_size, channels, stream)
    spec = {
        "name": canonical_name(name),
        "root": None if folder is None else str(folder),
        "image_size": image_size,
        "channels": channels,
        "seed": seed,
        "train_limit": train_limit,
        "validation_fraction": validation_fraction,
        "stream": stream,
    }
    return describe_splits(name, raw, splits, spec, seed)


def describe_splits(
    name: str, raw: RawData, splits: Mapping[str, Split], spec: Mapping[str, Any], seed: int
) -> ImageData:
    """Return an image set of splits that were made of a raw one, with statistics, and how they came about."""
    mean, std, statistics_from = _statistics(splits, seed)
    provenance = {**spec, **raw.notes, "statistics_from": statistics_from, **_what_was_done(raw, splits)}
    return ImageData(name, raw.classes, mean, std, raw.flips, **splits, spec=dict(spec), provenance=provenance)


def canonical_name(name: str) -> str:
    """Return the name that a data set goes by in any folder: ``npz:`` and ``imagefolder:`` with absolute paths."""
    key = name.partition(":")[0]
    takes_a_path = key in DATASETS.builtin and DATASETS.builtin[key].argument
    return f"{key}:{DatasetRequest(name).argument_path()}" if takes_a_path else name


def _check(**numbers: Any) -> None:
    for name, value in numbers.items():
        is_whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not is_whole and (value is not None or name in ("seed", "workers")):
            raise DataError(f"{name} must be a whole number, got {value!r}")
        if is_whole and name in ("seed", "workers") and value < 0:
            raise DataError(f"{name} must not be negative, got {value}")
        if is_whole and name == "image_size" and value < _SMALLEST_SIDE:
            raise DataError(f"image size {value} is too small; the least is {_SMALLEST_SIDE}")
        if is_whole and name == "channels" and value not in (1, 3):
            raise DataError(f"cannot convert to {value} channels; choose 1 (grey) or 3 (colour)")


def say_what_is_empty(name: str, raw: RawData) -> None:
    """Say which classes have no image in a split; a network gets an output for each of them."""
    for part, split in raw.splits().items():
        there = set(split.labels.tolist())
        lacking = [each for number, each in enumerate(raw.classes) if number not in there]
        if lacking:
            shown = ", ".join(map(repr, lacking[:5])) + (", …" if lacking[5:] else "")
            warnings.warn(
                f"{name}: {len(lacking)} of {len(raw.classes)} classes have no {part} image: {shown}",
                DataWarning,
                stacklevel=3,
            )


def _separate(raw: RawData, train_limit: int | None, validation_fraction: float, seed: int) -> dict[str, Split]:
    """Return the splits by name: validation held out unless the set ships it, then training limited."""
    splits = raw.splits()
    train = splits.get("train")
    if train is None:
        if train_limit is not None:
            raise DataError("a training limit was given, and the set has no training images to limit")
        return splits
    if raw.val is None and validation_fraction > 0:
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


def _adapt(
    splits: Mapping[str, Split], image_size: int | None, channels: int | None, stream: bool | None
) -> dict[str, Split]:
    """Return the splits with the channels and size asked for, image files in memory where they are not to stream."""
    found_channels, height, width = next(iter(splits.values())).shape
    wanted = channels or found_channels
    size = (height, width) if image_size is None else (image_size, image_size)
    if stream is None:
        stream = wanted * math.prod(size) * sum(map(len, splits.values())) > IN_MEMORY_BYTES
    adapted: dict[str, Split] = {}
    for name, split in splits.items():
        if isinstance(split, StreamedSplit):  # its reader does both
            files = replace(split, channels=wanted, image_size=size)
            adapted[name] = files if stream else InMemorySplit(files.images, files.labels)
        else:
            adapted[name] = InMemorySplit(resize_images(convert_channels(split.images, wanted), size), split.labels)
    return adapted


def _statistics(splits: Mapping[str, Split], seed: int) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Return mean and deviation by channel and which images they are of: training, else test."""
    part = next(name for name in ("train", "test", "val") if name in splits)
    split = splits[part]
    described = f"{len(split)} {part} images"
    if not isinstance(split, InMemorySplit) and len(split) > _STATISTICS_SAMPLE:
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
        split = split.subset(order[:_STATISTICS_SAMPLE].sort().values)
        described = f"{_STATISTICS_SAMPLE} of {described}"
    batches = range(math.ceil(len(split) / _STATISTICS_BATCH))
    told = counted(batches, None if isinstance(split, InMemorySplit) else shown_progress(), "measuring channels")
    read = zip(split.batches(_STATISTICS_BATCH), told, strict=True)
    mean, std = channel_statistics(batch.images for batch, _ in read)
    return mean, std, described


def _what_was_done(raw: RawData, splits: Mapping[str, Split]) -> dict[str, Any]:
    before, after = (next(iter(parts.values())).shape for parts in (raw.splits(), splits))
    original = raw.notes.get("resized_from", list(before[1:]))
    resized = original != list(after[1:])
    held_out = "held out of the training images, stratified" if "val" in splits else None
    return {
        "channels_from": before[0],
        "channels_to": after[0],
        "resized_from": original if resized else None,
        "resized_to": list(after[1:]) if resized else None,
        "interpolation": INTERPOLATION if resized else None,
        "streamed": not any(isinstance(split, InMemorySplit) for split in splits.values()),
        "validation": held_out if raw.val is None else "shipped with the set",
        "sizes": {part: len(split) for part, split in splits.items()},
        "sha256": {part: split.fingerprint() for part, split in splits.items()},
    }
