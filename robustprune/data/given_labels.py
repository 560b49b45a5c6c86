"""Labels of any form, integers, one-hot or strings, as class numbers; and what the classes are called."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustprune.data.npz import MOST_CLASSES, RENUMBER
from robustprune.errors import DataError, DataWarning
from robustprune.runtime.arrays import to_numpy


@dataclass(frozen=True, eq=False)
class GivenLabels:
    """The labels of a split: numbers or texts."""

    what: str  # the split, for errors
    numbers: NDArray[np.int64] | None  # (N,)
    texts: list[str] | None  # of N
    width: int | None = None  # how many columns one-hot labels had
    names: tuple[str, ...] | None = None  # of the classes, where the Dataset tells

    def of(self, classes: Sequence[str]) -> Tensor:
        """Return the labels as numbers of these classes, (N,) int64.

        Raises:
            DataError: A label is none of them.
        """
        if self.texts is None:
            assert self.numbers is not None
            if self.width not in (None, len(classes)):
                raise DataError(f"{self.what}: one-hot labels are of {self.width} classes, not {len(classes)}")
            return torch.from_numpy(self.numbers)
        number = {name: place for place, name in enumerate(classes)}
        strange = sorted(set(self.texts) - number.keys())
        if strange:
            shown = ", ".join(map(repr, list(classes)[:8])) + (", …" if len(classes) > 8 else "")
            raise DataError(f"{self.what}: label {strange[0]!r} is none of the classes {shown}")
        return torch.tensor([number[text] for text in self.texts], dtype=torch.int64)


class LabelReader:
    """Takes labels batch by batch, in whatever form, which has to be one form throughout."""

    def __init__(self, what: str) -> None:
        """Begin with none; ``what`` names them in errors."""
        self.what = what
        self._texts: list[str] = []
        self._arrays: list[NDArray[Any]] = []

    def add(self, labels: Any, *, is_batch: bool) -> int:
        """Take labels (N,), (N, 1) or one-hot (N, K), a list of texts, or those of one image; return how many.

        Raises:
            DataError: They are no labels.
        """
        if not is_batch and isinstance(labels, str):
            labels, is_batch = [labels], True
        if not isinstance(labels, Tensor | list | tuple) and hasattr(labels, "__array__"):
            labels = np.asarray(labels)
        if isinstance(labels, np.ndarray) and labels.dtype.kind in "OUT":
            labels = labels.tolist()
        if isinstance(labels, list | tuple) and any(isinstance(each, str) for each in labels):
            if not all(isinstance(each, str) for each in labels):
                raise DataError(f"{self.what}: some labels are texts and others are not; make them all texts")
            self._texts += map(str, labels)
            return len(labels)
        if is_batch and isinstance(labels, list | tuple) and any(map(_is_array, labels)):
            # Collating one-hot lists gives one tensor a class, which looks the same and means something else.
            raise DataError(f"{self.what}: labels are a list of arrays; let the Dataset return each as one tensor")
        array = to_numpy(labels, f"{self.what}: labels", DataError)
        array = array if is_batch else array[None]
        if array.ndim > 2:
            raise DataError(f"{self.what}: labels of shape {array.shape} are neither (N,) nor one-hot (N, K)")
        self._arrays.append(array)
        return len(array) if array.ndim else 1

    def result(self, names: tuple[str, ...] | None) -> GivenLabels:
        """Return all labels; ``names`` are those that the Dataset gives its classes.

        Raises:
            DataError: They are of several forms, or no class numbers.
        """
        if self._texts and self._arrays:
            raise DataError(f"{self.what}: some labels are texts and others are not; make them all texts")
        if not self._arrays:
            return GivenLabels(self.what, None, self._texts)
        if len({array.shape[1:] for array in self._arrays}) > 1 or not self._arrays[0].ndim:
            raise DataError(f"{self.what}: labels are of several shapes; give an integer, or one-hot ones, an image")
        numbers, width = self._numbers(np.concatenate(self._arrays))
        return GivenLabels(self.what, numbers, None, width, names)

    def _numbers(self, labels: NDArray[Any]) -> tuple[NDArray[np.int64], int | None]:
        """Return class numbers (N,), and how many classes one-hot labels are of."""
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim == 2 and labels.shape[1] > 1:
            ones = labels == 1
            if not ((ones | (labels == 0)).all() and (ones.sum(axis=1) == 1).all()):
                raise DataError(
                    f"{self.what}: labels of shape {labels.shape} are not one-hot, a single 1 among zeros; give one "
                    "class an image"
                )
            return ones.argmax(axis=1).astype(np.int64), labels.shape[1]
        if labels.ndim != 1 or labels.dtype.kind not in "iub":
            raise DataError(
                f"{self.what}: labels are {labels.dtype} of shape {labels.shape}; expected whole numbers of an integer "
                f"type (N,), one-hot ones (N, K), or texts. {RENUMBER}"
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < MOST_CLASSES:
            raise DataError(
                f"{self.what}: labels run from {labels.min()} to {labels.max()}; classes count from 0 to at most "
                f"{MOST_CLASSES - 1}. {RENUMBER}"
            )
        return labels.astype(np.int64), None


def find_classes(found: Mapping[str, GivenLabels], asked: Sequence[str] | int | None) -> tuple[str, ...]:
    """Return the names of the classes: as asked for, as the Datasets have them, or from the labels themselves.

    ``found`` are the labels by split. What training shows are the classes; without training images, what is there.

    Raises:
        DataError: The splits disagree, or names that cannot be; numbers of training that leave classes out.

    Warns:
        DataWarning: Texts without training images, whose order is a guess.
    """
    told = {labels.names for labels in found.values() if labels.names}
    if len(told) > 1:
        raise DataError(f"the splits name their classes differently: {' and '.join(map(_few, sorted(told)))}")
    if len({labels.texts is None for labels in found.values()}) > 1:
        raise DataError("the labels of one split are texts and those of another numbers; give them alike")
    names = next(iter(told), None)
    shown = found.get("train") or next(iter(found.values()))
    if asked is not None:
        return _asked(asked, names)
    if shown.texts is not None:
        if names and set(shown.texts) <= set(names):
            return names
        sorted_names = tuple(sorted(set(shown.texts)))
        if "train" not in found:  # a class that is not among them would shift the numbers of the others
            warnings.warn(
                f"{shown.what}: labels are texts, and become the numbers of these classes in this order: "
                f"{_few(sorted_names)}. Give classes= where the network was trained on others or in another order",
                DataWarning,
                stacklevel=4,
            )
        return sorted_names
    assert shown.numbers is not None
    last = max(int(labels.numbers.max(initial=0)) for labels in found.values() if labels.numbers is not None)
    if names and last < len(names) and shown.width in (None, len(names)):
        return names
    if shown.width is not None:
        return tuple(map(str, range(shown.width)))
    last, different = int(shown.numbers.max(initial=0)), len(np.unique(shown.numbers))
    if "train" in found and different and (shown.numbers.min() > 0 or 2 * different <= last):
        raise DataError(
            f"{shown.what}: labels are {different} numbers from {int(shown.numbers.min())} to {last}: of the "
            f"{last + 1} classes from 0 to {last}, {last + 1 - different} would have no image. {RENUMBER}; or say "
            "classes="
        )
    return tuple(map(str, range(last + 1)))


def _asked(classes: Sequence[str] | int, told: tuple[str, ...] | None) -> tuple[str, ...]:
    if isinstance(classes, int) and not isinstance(classes, bool) and 0 < classes <= MOST_CLASSES:
        return tuple(map(str, range(classes)))
    if isinstance(classes, str | Mapping) or not hasattr(classes, "__iter__"):
        raise DataError(f"classes={classes!r} is neither the names of the classes, in their order, nor how many")
    names = tuple(map(str, classes))
    if not names or len(set(names)) < len(names) or len(names) > MOST_CLASSES:
        raise DataError(f"classes={_few(names)} must be one name or more, each of them once")
    if told and names != told and sorted(names) == sorted(told):
        raise DataError(f"the classes {_few(names)} are in another order than the Dataset's own: {_few(told)}")
    return names


def _few(names: Sequence[str]) -> str:
    return "(" + ", ".join(map(repr, names[:6])) + (", …)" if len(names) > 6 else ")")


def _is_array(each: Any) -> bool:
    return isinstance(each, Tensor | np.ndarray) and each.ndim > 0
