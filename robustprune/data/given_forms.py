"""Labelled images as programs hold them: DataLoaders, Datasets and pairs, read in their order through one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from robustprune.errors import DataError, RobustPruneError, in_one_line

_IMAGE_KEYS = ("image", "images", "img", "pixel_values", "pixels", "x")
_LABEL_KEYS = ("label", "labels", "target", "targets", "class", "y")
_LOOKED_AT = 8  # images that are read twice, to see whether they come out alike; flips spare one in two
_DEPTH = 8  # Datasets around Datasets around …


class Chunk(NamedTuple):
    """Images with their labels, or one image with its label, as they came."""

    images: Any
    labels: Any
    is_batch: bool


def chunks_of(given: Any, what: str) -> Iterator[Chunk]:
    """Yield all that a DataLoader, Dataset, or pair of images and labels holds; ``what`` names it in errors.

    Raises:
        DataError: It is none of these, or reading failed.
    """
    if isinstance(given, Mapping) or _is_pair(given):
        yield Chunk(*unpack(given, what), True)
        return
    if not (is_map_style(given) or isinstance(given, Iterable)) or isinstance(given, str | bytes) or _is_array(given):
        raise DataError(
            f"{what}: expected a DataLoader, a Dataset, or a pair of images and labels, got {type(given).__name__}"
        )
    items = (given[index] for index in range(len(given))) if is_map_style(given) else iter(given)
    position = 0
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except (RobustPruneError, Warning, MemoryError):
            raise
        except Exception as error:  # of the user's code
            raise DataError(
                f"{what}: reading item {position} of this {type(given).__name__} failed with {type(error).__name__}: "
                f"{in_one_line(error)}"
            ) from error
        images, labels = unpack(item, what)
        yield Chunk(images, labels, _is_batch(given, images, labels))
        position += 1


def unpack(item: Any, what: str) -> tuple[Any, Any]:
    """Return images and labels of what a loader or Dataset gives: a pair, or a mapping that names the two.

    Raises:
        DataError: It is neither; the message says what came.
    """
    if isinstance(item, Mapping):
        return _value(item, _IMAGE_KEYS, what), _value(item, _LABEL_KEYS, what)
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    found = f"{len(item)} things" if isinstance(item, tuple | list) else f"a {type(item).__name__}"
    raise DataError(f"{what}: expected pairs of images and labels, got {found}; let the Dataset return (image, label)")


def is_map_style(given: Any) -> bool:
    """Return whether it is a Dataset, of torch or of its kind, whose items can be asked for by number."""
    is_through = isinstance(given, DataLoader | IterableDataset | str | bytes | Mapping)
    return (
        not (is_through or _is_array(given) or _is_pair(given))
        and hasattr(given, "__getitem__")
        and hasattr(given, "__len__")
    )


def is_in_hand(given: Any) -> bool:
    """Return whether it is a labelled image set, as `chunks_of` reads, and not names of some, nor images alone."""
    if isinstance(given, tuple):
        return _is_pair(given) and _is_array(given[0]) and np.ndim(given[0]) > _dimensions(given[1])
    if isinstance(given, Mapping):
        return any(key in given for key in _IMAGE_KEYS)
    return isinstance(given, DataLoader | IterableDataset) or (is_map_style(given) and not isinstance(given, list))


def _dimensions(labels: Any) -> int:
    return np.ndim(labels) if _is_array(labels) else 1  # a list, of whatever texts or numbers


def is_picture(image: Any) -> bool:
    """Return whether it is an image of PIL, without importing that."""
    return hasattr(image, "getbands") and hasattr(image, "convert")


def dataset_of(given: Any) -> Any:
    """Return the map-style Dataset that a loader reads, or the Dataset given; None where there is none."""
    found = getattr(given, "dataset", None) if isinstance(given, DataLoader) else given
    return found if is_map_style(found) else None


def known_names(given: Any) -> tuple[str, ...] | None:
    """Return the names of the classes that a Dataset tells, as torchvision's and Hugging Face's do, if it does."""
    for _ in range(_DEPTH):
        if isinstance(given, Mapping) or getattr(given, "target_transform", None) is not None:
            return None  # its labels are no longer those that the names are of
        features = getattr(given, "features", None)
        named = [features[key] for key in _LABEL_KEYS if key in features] if isinstance(features, Mapping) else []
        names = getattr(named[0], "names", None) if named else getattr(given, "classes", None)
        if isinstance(names, list | tuple) and names and all(isinstance(name, str | tuple) for name in names):
            return tuple(name if isinstance(name, str) else ", ".join(map(str, name)) for name in names)
        if not hasattr(given, "dataset"):
            return None
        given = given.dataset
    return None


def draws_at_random(given: Any) -> bool:
    """Return whether a Dataset gives another image when it is asked again, as one with augmentation does."""
    dataset = dataset_of(given)
    try:
        for index in range(min(_LOOKED_AT, len(dataset)) if dataset is not None else 0):
            first, again = (np.asarray(unpack(dataset[index], "")[0]) for _ in range(2))
            if not np.array_equal(first, again):
                return True
    except Exception:  # what the pass itself went through without; nothing is known then
        return False
    return False


def _is_pair(given: Any) -> bool:
    """Return whether it is images and labels: a tuple of two, or a list of two arrays; not a list of two samples."""
    is_two = isinstance(given, tuple | list) and len(given) == 2
    return is_two and (isinstance(given, tuple) or all(map(_is_array, given)))


def _is_array(each: Any) -> bool:
    return isinstance(each, Tensor | np.ndarray) or hasattr(each, "__array__")


def _is_batch(given: Any, images: Any, labels: Any) -> bool:
    if is_map_style(given) or isinstance(given, IterableDataset):
        return False
    if isinstance(given, DataLoader) and given.batch_sampler is not None:
        return True
    # Anything that is iterated over may give either.
    return not (is_picture(images) or isinstance(labels, str | int) or getattr(labels, "ndim", 1) == 0)


def _value(item: Mapping[Any, Any], keys: tuple[str, ...], what: str) -> Any:
    found = [key for key in keys if key in item]
    if len(found) == 1:
        return item[found[0]]
    kind = "image" if keys is _IMAGE_KEYS else "label"
    raise DataError(
        f"{what}: {'none' if not found else 'more than one'} of the keys {', '.join(map(str, list(item)[:8]))} is that "
        f"of the {kind}s; name it {keys[0]!r}, and nothing else so (known are {', '.join(keys)})"
    )
