"""Images as programs hold them: DataLoaders, Datasets, arrays and pairs, read in their order through one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from robustprune.data.pixels import images_at_a_time
from robustprune.errors import DataError, RobustPruneError, in_one_line

_IMAGE_KEYS = ("image", "images", "img", "pixel_values", "pixels", "x")
_PARTS = 16  # of an array that are read at a time, as it may be kept on disk in pieces
LABEL_KEYS = ("label", "labels", "target", "targets", "class", "y")


class Chunk(NamedTuple):
    """Images with their labels, or one image with its label, as they came."""

    images: Any
    labels: Any  # None where images come alone
    is_batch: bool


def chunks_of(given: Any, what: str, *, bare: bool = False) -> Iterator[Chunk]:
    """Yield all that a DataLoader, Dataset, or pair of images and labels holds; ``what`` names it in errors.

    Where ``bare``, labels may be lacking, and images may be an array alone.

    Raises:
        DataError: It is none of these, or reading failed.
    """
    if bare and is_array(given):
        yield from _rows(given, None, what)
        return
    if isinstance(given, Mapping) or is_pair(given, bare=bare):
        yield from _rows(*unpack(given, what, bare=bare), what)
        return
    if not (is_map_style(given) or isinstance(given, Iterable)) or isinstance(given, str | bytes) or is_array(given):
        pair = "images, or images and labels" if bare else "or a pair of images and labels"
        raise DataError(f"{what}: expected a DataLoader, a Dataset, {pair}, got {type(given).__name__}")
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
            raise failed_reading(f"{what}: reading item {position} of this {type(given).__name__}", error) from error
        images, labels = unpack(item, what, bare=bare)
        yield Chunk(images, labels, _is_batch(given, images, labels, what))
        position += 1


def failed_reading(what: str, error: Exception) -> DataError:
    """Return what to raise where the user's code did."""
    return DataError(f"{what} failed with {type(error).__name__}: {in_one_line(error)}")


def unpack(item: Any, what: str, *, bare: bool = False) -> tuple[Any, Any]:
    """Return images and labels of what a loader or Dataset gives: a pair, or a mapping that names the two.

    Where ``bare``, images may come alone, with None for their labels, and more than two things may come.

    Raises:
        DataError: It is neither; the message says what came.
    """
    if isinstance(item, Mapping):
        return _value(item, _IMAGE_KEYS, what), _value(item, LABEL_KEYS, what, needed=not bare)
    if bare and (is_array(item) or is_picture(item)):
        return item, None
    if isinstance(item, tuple | list) and (len(item) == 2 or (bare and len(item) > 0)):
        return item[0], item[1] if len(item) > 1 else None
    found = f"{len(item)} things" if isinstance(item, tuple | list) else f"a {type(item).__name__}"
    raise DataError(f"{what}: expected pairs of images and labels, got {found}; let the Dataset return (image, label)")


def is_map_style(given: Any) -> bool:
    """Return whether it is a Dataset, of torch or of its kind, whose items can be asked for by number."""
    is_through = isinstance(given, DataLoader | IterableDataset | str | bytes | Mapping)
    return (
        not (is_through or is_array(given) or is_pair(given))
        and hasattr(given, "__getitem__")
        and hasattr(given, "__len__")
    )


def is_pair(given: Any, *, bare: bool = False) -> bool:
    """Return whether it is images and labels: a tuple of two, or a list of two arrays; not a list of two samples.

    Where ``bare``, two arrays of one shape are two images.
    """
    if not isinstance(given, tuple | list) or len(given) != 2:
        return False
    are_arrays = all(map(is_array, given))
    if bare and are_arrays and np.shape(given[0]) == np.shape(given[1]):
        return False
    return isinstance(given, tuple) or are_arrays


def is_array(each: Any) -> bool:
    """Return whether it is an array of some library, and no image of PIL."""
    return isinstance(each, Tensor | np.ndarray) or (hasattr(each, "__array__") and not is_picture(each))


def is_picture(image: Any) -> bool:
    """Return whether it is an image of PIL, without importing that."""
    return hasattr(image, "getbands") and hasattr(image, "convert")


def array_of_images(given: Any, what: str) -> Any:
    """Return the images of a pair, or a mapping, of arrays, one in each row; None of other forms.

    Raises:
        DataError: A mapping has no images or labels.
    """
    if not (isinstance(given, Mapping) or is_pair(given)):
        return None
    images, _ = unpack(given, what)
    return images if is_array(images) and len(getattr(images, "shape", ())) > 2 else None


def _rows(images: Any, labels: Any, what: str) -> Iterator[Chunk]:
    """Yield images and labels, a part at a time where they are many."""
    shape = getattr(images, "shape", ())
    rows = _PARTS * images_at_a_time(shape) if len(shape) > 2 else 0
    if not rows or len(images) <= rows:
        yield Chunk(images, labels, True)
        return
    if labels is not None and not isinstance(labels, Tensor | list | tuple) and is_array(labels):
        labels = np.asarray(labels)
    if labels is not None and (not hasattr(labels, "__len__") or len(labels) != len(images)):
        came = len(labels) if hasattr(labels, "__len__") else "no"
        raise DataError(f"{what}: {len(images)} images came with {came} labels; give one an image")
    for start in range(0, len(images), rows):
        part = slice(start, start + rows)
        yield Chunk(images[part], None if labels is None else labels[part], True)


def _is_batch(given: Any, images: Any, labels: Any, what: str) -> bool:
    if is_map_style(given) or isinstance(given, IterableDataset):
        return False
    if isinstance(given, DataLoader) and given.batch_sampler is not None:
        return True
    if labels is None and np.ndim(images) == 3 and not is_picture(images):
        raise DataError(
            f"{what}: of images of shape {tuple(images.shape)} without labels nobody can tell whether they are one or "
            "several; give batches (N, C, H, W)"
        )
    # Anything that is iterated over may give either.
    return not (is_picture(images) or isinstance(labels, str | int) or getattr(labels, "ndim", 1) == 0)


def _value(item: Mapping[Any, Any], keys: tuple[str, ...], what: str, *, needed: bool = True) -> Any:
    found = [key for key in keys if key in item]
    if len(found) == 1:
        return item[found[0]]
    if not found and not needed:
        return None
    kind = "image" if keys is _IMAGE_KEYS else "label"
    raise DataError(
        f"{what}: {'none' if not found else 'more than one'} of the keys {', '.join(map(str, list(item)[:8]))} is that "
        f"of the {kind}s; name it {keys[0]!r}, and nothing else so (known are {', '.join(keys)})"
    )
