"""Images to fit detectors on or to score, out of whatever holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from robustprune.data import ImageData, Split
from robustprune.errors import EvaluationError
from robustprune.models import to_unit_range
from robustprune.runtime.arrays import to_tensor

_BATCH = 256
_IMAGES = ("image", "images", "img", "pixel_values")
_LABELS = ("label", "labels", "target", "targets")


def read_images(given: Any, split: str) -> tuple[Tensor, Tensor | None]:
    """Return images (N, …), uint8 or float in [0, 1], and their labels (N,) int64, if there are any.

    They come as an image set, of which this ``split`` is meant, or a split of one, as images alone, as a pair of images
    and labels, or as a DataLoader or Dataset of either, which is read once.

    Raises:
        EvaluationError: It is none of these, or images are not on that scale.
        DataError: The set has no such split.
    """
    if isinstance(given, ImageData):
        given = given.require(split)
    if isinstance(given, Split):
        return given.images, given.labels
    if _is_array(given) or _is_pair(given):
        images, labels = _of_batch(given)
    else:
        images, labels = _read_all(given)
    if labels is not None and (labels.shape != images.shape[:1] or labels.is_floating_point()):
        raise EvaluationError(
            f"labels must be whole numbers of shape ({len(images)},), one for each image; found {labels.dtype} of "
            f"shape {tuple(labels.shape)}"
        )
    if len(images) and images.is_floating_point():
        low, high = (float(bound) for bound in to_unit_range(images).aminmax())
        if not (low >= 0 and high <= 1):  # as NaN is neither
            raise EvaluationError(
                f"images must lie in [0, 1], these run from {low:g} to {high:g}; divide by 255 if they are on that "
                "scale, and put normalization inside the model"
            )
    return images, None if labels is None else labels.long()


def _read_all(given: Any) -> tuple[Tensor, Tensor | None]:
    """Return all images and labels of a DataLoader, a Dataset, or anything else that yields batches."""
    if not isinstance(given, DataLoader) and hasattr(given, "__getitem__") and hasattr(given, "__len__"):
        given = DataLoader(given, batch_size=_BATCH)
    if not isinstance(given, Iterable) or isinstance(given, str | Mapping):
        raise EvaluationError(
            f"expected images, images and labels, a DataLoader or a Dataset, got a {type(given).__name__}"
        )
    batches = [_of_batch(batch) for batch in given]
    if not batches:
        raise EvaluationError(f"this {type(given).__name__} gives no images; one that was read already has none left")
    labels = [each for _, each in batches if each is not None]
    is_labelled = len(labels) == len(batches)
    return torch.cat([images for images, _ in batches]), torch.cat(labels) if is_labelled else None


def _of_batch(batch: Any) -> tuple[Tensor, Tensor | None]:
    """Return images, and labels if there are any, of a batch: images, a pair, or a mapping that names both."""
    if isinstance(batch, Mapping):
        images, labels = (next((batch[key] for key in keys if key in batch), None) for keys in (_IMAGES, _LABELS))
        if images is None:
            raise EvaluationError(f"a batch has {', '.join(map(repr, batch))} and none of {', '.join(_IMAGES)}")
    elif _is_array(batch):
        images, labels = batch, None
    else:
        images, labels = batch[0], batch[1] if len(batch) > 1 else None
    return to_tensor(images, "images").cpu(), None if labels is None else to_tensor(labels, "labels").cpu()


def _is_array(given: Any) -> bool:
    return isinstance(given, Tensor) or (hasattr(given, "__array__") and not isinstance(given, list | tuple))


def _is_pair(given: Any) -> bool:
    return isinstance(given, tuple | list) and len(given) == 2 and _is_array(given[0]) and not _is_array_of_one(given)


def _is_array_of_one(given: Any) -> bool:
    """Return whether the second is an image like the first, as in a list of two images."""
    return getattr(given[0], "shape", None) == getattr(given[1], "shape", ())
