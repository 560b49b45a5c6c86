"""Any labelled images as an image set: what a user has in hand becomes what the toolkit works on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from robustprune.data.contract import RawData
from robustprune.data.dataset_split import DatasetReader
from robustprune.data.given_forms import chunks_of, dataset_of, draws_at_random, is_in_hand, is_map_style, known_names
from robustprune.data.given_images import ImageReader, Undo
from robustprune.data.given_labels import GivenLabels, LabelReader, find_classes
from robustprune.data.image_data import ImageData
from robustprune.data.load import IN_MEMORY_BYTES, describe_splits, say_what_is_empty
from robustprune.data.splits import InMemorySplit, Split
from robustprune.errors import DataError, DataWarning, ModelError, in_one_line
from robustprune.models.adapter import check_constants
from robustprune.runtime.randomness import isolated_generators

AnyData = ImageData | Dataset[Any] | Iterable[Any]
"""An image set, or what `as_data` makes one of."""


def as_data(
    given: AnyData | None = None,
    role: Literal["train", "val", "test"] = "train",
    *,
    train: AnyData | None = None,
    val: AnyData | None = None,
    test: AnyData | None = None,
    classes: Sequence[str] | int | None = None,
    name: str = "data",
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    seed: int = 0,
) -> ImageData:
    """Return an image set of DataLoaders, Datasets, or pairs of images and labels, each read once.

    ``as_data(train=loader, test=loader)``. Every function that takes image sets takes these forms too; what is used
    more than once is better read once, by this. Nothing is held out for validation: that is ``val``. A mirrored image
    is taken for one of another class; ``dataclasses.replace(data, flips=True)`` lets training mirror.

    Each split is a DataLoader or another iterable over batches (one pass, in its order; pairs, or mappings with the
    keys image and label or their like), a map-style Dataset (torchvision's, Hugging Face's), a pair ``(images,
    labels)`` of arrays or tensors, or a mapping of the two. Images are (N, H, W), (N, H, W, C) or (N, C, H, W) with
    C of 1 or 3, uint8 in 0 … 255 or floats in [0, 1], or of PIL; all of one size. Labels are integers from 0, one-hot,
    or texts. They are held as uint8: floats are rounded to the nearest multiple of 1/255. All are kept in memory but
    those of a Dataset that would take more than 2 GiB, whose images are asked for again as they are used.

    Args:
        given: An image set, which is returned as it is; or a single split.
        role: Which split a single one is.
        train: Images to score, prune and train with: as they are, without augmentation, which is the recipe's.
        val: Validation images.
        test: Test images.
        classes: Names of the classes in the order of their numbers, or how many there are. By default those that the
            Dataset tells, the texts in alphabetical order, or the numbers up to the greatest in training.
        name: What to call the set; that of a known one, as ``cifar10``, says which sets are near and far.
        mean: With ``std``, what the images were normalized with, by channel on the [0, 1] scale: it is undone.
        std: See ``mean``.
        seed: Decides the order of loaders that shuffle and what random transforms draw; process-wide generators are
            left as they were.

    Raises:
        DataError: Images that are not in [0, 1], of several sizes, or without a label each; labels that are no classes;
            something that is none of the forms.

    Warns:
        DataWarning: Images were rounded, differ each time, or were left out; a class has no image.
    """
    if isinstance(given, ImageData):
        if any(each is not None for each in (train, val, test, classes, mean, std)):
            raise DataError(f"{given.name} is an image set already, and taken as it is; leave out the rest")
        return given
    splits = _named_splits(given, role, {"train": train, "val": val, "test": test})
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"name={name!r} is no name for an image set; give a text")
    if not isinstance(seed, int) or seed < 0:
        raise DataError(f"seed={seed!r} is not a whole number from 0")
    undo = _undoing(mean, std)
    with isolated_generators(seed):
        read = {part: _read(each, part, undo) for part, each in splits.items()}
    found = find_classes({part: labels for part, (_, labels) in read.items()}, classes)
    ready: dict[str, Any] = {part: make(labels.of(found)) for part, (make, labels) in read.items()}
    raw = RawData(found, **ready, notes={"name": name})
    say_what_is_empty(name, raw)
    return describe_splits(name, raw, ready, {}, seed)


def images_in_hand(given: Any, what: str) -> Tensor | None:
    """Return the images (N, C, H, W) uint8 of a set in any of the forms of `as_data`, whatever its labels are.

    Of an image set those of its test split, or else of another; None where it is no set but names, or images alone.

    Raises:
        DataError: Images that `as_data` refuses.
    """
    if isinstance(given, ImageData):
        return next(given.splits()[part] for part in ("test", "val", "train") if part in given.splits()).images
    if isinstance(given, Split):
        return given.images
    if not is_in_hand(given):
        return None
    reader = ImageReader(what)
    with isolated_generators(0):
        for chunk in chunks_of(given, what):
            reader.add(chunk.images, is_batch=chunk.is_batch)
        return _conclude(given, reader)


def _named_splits(given: Any, role: str, named: dict[str, Any]) -> dict[str, Any]:
    splits = {part: each for part, each in named.items() if each is not None}
    if given is not None:
        if splits or role not in named:
            raise DataError("name each split, train=, val= or test=, or hand over a single one with its role")
        splits = {role: given}
    if not splits:
        raise DataError("there are no images; hand over train=, val= or test=, a DataLoader, a Dataset or a pair each")
    return splits


def _undoing(mean: Any, std: Any) -> Undo | None:
    """Return what images were normalized with, as two lists of one length."""
    if mean is None and std is None:
        return None
    try:
        centre, spread = (np.atleast_1d(np.asarray(each, dtype=np.float64)).tolist() for each in (mean, std))
        check_constants(centre, spread)
    except (TypeError, ValueError, ModelError) as error:
        raise DataError(f"mean={mean!r} and std={std!r} undo no normalization: {in_one_line(error)}") from error
    return centre, spread


def _read(given: Any, part: str, undo: Undo | None) -> tuple[Callable[[Tensor], Split], GivenLabels]:
    """Return what makes a split of its class numbers, and its labels, in the order of one pass."""
    what = f"{part}="
    names = given.classes if isinstance(given, ImageData) else None
    given = given.require(part) if isinstance(given, ImageData) else given
    if isinstance(given, Split):
        if undo is not None:
            raise DataError(f"{what}: uint8 images are not normalized; leave out mean and std")
        return lambda _: given, GivenLabels(what, given.labels.cpu().numpy(), None, names=names)
    images, labels = ImageReader(what, undo), LabelReader(what)
    streamed: DatasetReader | None = None
    for position, chunk in enumerate(chunks_of(given, what)):
        images_came = images.add(chunk.images, is_batch=chunk.is_batch)
        labels_came = labels.add(chunk.labels, is_batch=chunk.is_batch)
        if images_came != labels_came:
            raise DataError(f"{what}: {images_came} images came with {labels_came} labels; give one an image")
        if position == 0 and is_map_style(given) and len(given) * images.held > IN_MEMORY_BYTES:
            streamed = DatasetReader(given, images)
        if streamed is not None:
            streamed.go_on()
    found = labels.result(known_names(given))
    if streamed is None:
        return partial(InMemorySplit, _conclude(given, images)), found
    images.check_brightness()
    if draws_at_random(given):
        raise DataError(f"{what}: its transforms draw at random, and it is too large to keep; leave augmentation out")
    _warn(given, images, len(given))
    return streamed.split, found


def _conclude(given: Any, read: ImageReader) -> Tensor:
    """Return the images read, once what became other than it may be taken for is said."""
    images = read.take()
    read.check_brightness()
    _warn(given, read, len(images))
    return images


def _warn(given: Any, read: ImageReader, count: int) -> None:
    found = []
    if read.rounded:
        found.append(
            f"{read.rounded / read.values:.1%} of the values are no multiples of 1/255 and were rounded, by 1/510 at "
            "most, as images are held in uint8"
        )
    if read.repeated:
        found.append(f"{read.repeated} grey images among colour ones were given three equal channels")
    if draws_at_random(given):
        found.append("its transforms draw at random, and the images stay as they were drawn; leave augmentation out")
    dataset = dataset_of(given)
    there = len(dataset) if isinstance(given, DataLoader) and given.drop_last and dataset is not None else count
    if there != count:
        found.append(f"the DataLoader gave {count} of {there} images, as it drops the last batch")
    if isinstance(given, DataLoader) and getattr(given.sampler, "replacement", False):
        found.append("its sampler draws with replacement, so that images are there several times")
    for each in found:
        warnings.warn(f"{read.what}: {each}", DataWarning, stacklevel=4)
