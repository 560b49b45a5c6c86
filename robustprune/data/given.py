"""Any labelled images as an image set: what a user has in hand becomes what the toolkit works on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from robustprune.data.contract import RawData
from robustprune.data.dataset_split import PassReader
from robustprune.data.given_forms import Chunk, chunks_of
from robustprune.data.given_images import ImageReader, Undo
from robustprune.data.given_labels import GivenLabels, LabelReader, find_classes
from robustprune.data.given_names import dataset_of, known_names
from robustprune.data.given_source import GivenSource
from robustprune.data.image_data import ImageData
from robustprune.data.load import IN_MEMORY_BYTES, describe_splits, say_what_is_empty
from robustprune.data.splits import InMemorySplit, Split
from robustprune.errors import DataError, DataWarning, ModelError, in_one_line
from robustprune.models.adapter import check_constants
from robustprune.runtime.free_memory import available_memory
from robustprune.runtime.randomness import isolated_generators

_STEP = 256 * 1024**2  # bytes of images between two looks at how much memory is left

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
    splits of more than 2 GiB that can be asked for again as they are used: of a Dataset, a DataLoader of one, through
    its ``collate_fn`` and in the order of this pass, and of arrays, such as `numpy.memmap`, which have to stay as they
    are.

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
        DataWarning: Images were rounded, differ each time, or were left out; a class has no image; texts label
            test images alone, so that nothing tells the order of the classes.
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
    read = {}
    for part, each in splits.items():
        with isolated_generators(seed):
            read[part] = _read(each, part, undo)
    found = find_classes({part: labels for part, (_, labels) in read.items()}, classes)
    ready: dict[str, Any] = {part: make(labels.of(found)) for part, (make, labels) in read.items()}
    raw = RawData(found, **ready, notes={"name": name})
    say_what_is_empty(name, raw)
    return describe_splits(name, raw, ready, {}, seed)


def read_images(
    given: Any, split: str | None = None, *, what: str = "images", exact: bool = True, labelled: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Return images (N, C, H, W), and their labels (N,) int64 if they have any and these are asked for.

    They come in any of the forms of `as_data`, with or without labels, or as an array alone. Where ``exact``, floats
    are not rounded to levels of uint8, and arrays of other shapes (N, …) than images' are taken as they are.

    Args:
        given: The images, or an image set.
        split: Which split of an image set; by default its test images, or else others.
        what: What errors call them.
        exact: See above.
        labelled: Whether labels matter; if not, they may be anything, such as numbers below 0.

    Raises:
        DataError: There are none, or not in [0, 1], or the set has no such split; or labels that are no class numbers.
    """
    if isinstance(given, ImageData):
        there = given.splits()
        given = given.require(split or next(part for part in ("test", "val", "train") if part in there))
    if isinstance(given, Split):
        return given.images, given.labels if labelled else None
    images, labels = ImageReader(what, exact=exact), LabelReader(what)
    bare = 0
    with isolated_generators(0):
        for chunk in chunks_of(given, what, bare=True):
            came = _take(chunk, images, labels, bare=True)
            bare += came if chunk.labels is None else 0
        read = images.take() if exact else _conclude(given, GivenSource.of(dataset_of(given), what), images)
    if not labelled or bare:
        return read, None
    found = labels.result(None)
    if found.texts is not None:
        raise DataError(f"{what}: labels are texts, and which class is which number is not known; give numbers")
    assert found.numbers is not None
    return read, torch.from_numpy(found.numbers)


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
    source, bound = GivenSource.of(given, what), IN_MEMORY_BYTES
    streamed: PassReader | None = None
    for chunk in chunks_of(source.given if source else given, what):
        _take(chunk, images, labels)
        if streamed is None and images.held > bound:
            bound += _STEP
            if source is None:
                _check_memory(what)
            else:
                streamed = PassReader(source, images)
        if streamed is not None:
            streamed.go_on()
    found = labels.result(known_names(given))
    if streamed is None:
        return partial(
            InMemorySplit, _conclude(given, source or GivenSource.of(dataset_of(given), what), images)
        ), found
    images.check_brightness()
    if source and source.draws_at_random(lambda: ImageReader(what, undo)):
        raise DataError(f"{what}: its transforms draw at random, and it is too large to keep; leave augmentation out")
    _warn(given, images, streamed.count)
    return streamed.split, found


def _take(chunk: Chunk, images: ImageReader, labels: LabelReader, *, bare: bool = False) -> int:
    """Let readers take images and labels, and return how many, which has to be the same."""
    came = images.add(chunk.images, is_batch=chunk.is_batch)
    if not (bare and chunk.labels is None):
        labels_came = labels.add(chunk.labels, is_batch=chunk.is_batch)
        if came != labels_came:
            raise DataError(f"{images.what}: {came} images came with {labels_came} labels; give one an image")
    return came


def _check_memory(what: str) -> None:
    """Check that there is memory for more images of what gives them only once."""
    left = available_memory(torch.device("cpu"))
    if left is not None and left < 2 * _STEP:
        raise DataError(
            f"{what}: the images fill the memory and can be had only once; give a map-style Dataset, a DataLoader of "
            "one, or an array that stays on disk (numpy.memmap), which are read as they are used"
        )


def _conclude(given: Any, source: GivenSource | None, read: ImageReader) -> Tensor:
    """Return the images read, once what became other than it may be taken for is said."""
    images = read.take()
    read.check_brightness()
    is_random = source is not None and source.draws_at_random(lambda: ImageReader(read.what, read.undo))
    _warn(given, read, len(images), is_random=is_random)
    return images


def _warn(given: Any, read: ImageReader, count: int, *, is_random: bool = False) -> None:
    found = []
    if read.rounded:
        found.append(
            f"{read.rounded / read.values:.1%} of the values are no multiples of 1/255 and were rounded, by 1/510 at "
            "most, as images are held in uint8"
        )
    if read.repeated:
        found.append(f"{read.repeated} grey images among colour ones were given three equal channels")
    if is_random:
        found.append("its transforms draw at random, and the images stay as they were drawn; leave augmentation out")
    dataset = dataset_of(given)
    there = len(dataset) if isinstance(given, DataLoader) and given.drop_last and dataset is not None else count
    if there != count:
        found.append(f"the DataLoader gave {count} of {there} images, as it drops the last batch")
    if isinstance(given, DataLoader) and getattr(given.sampler, "replacement", False):
        found.append("its sampler draws with replacement, so that images are there several times")
    for each in found:
        warnings.warn(f"{read.what}: {each}", DataWarning, stacklevel=4)
