"""Image sets in one .npz file, laid out as MedMNIST publishes them.

Either ``train_images, train_labels, test_images, test_labels`` (and ``val_images, val_labels``) or just
``images, labels``, which are then the test split. Images are uint8 N×H×W or N×H×W×C with C of 1 or 3; labels
are whole numbers, N or N×1.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robustprune.data.contract import DatasetRequest, RawData, Remarks
from robustprune.data.splits import InMemorySplit
from robustprune.errors import DataError, DataWarning

_SPLITS = ("train", "val", "test")
_MOST_CLASSES = 1 << 16  # more is not a class number but something else
_Arrays = dict[str, NDArray[Any]]


def load_npz(request: DatasetRequest) -> RawData:
    """One .npz file of train_images, train_labels, test_images, test_labels (val_…), or images, labels."""
    path = request.argument_path()
    arrays, found = _read(path)
    prefixes = _prefixes(path, found)
    splits = {name: _make_split(path, prefix, arrays) for name, prefix in prefixes.items()}
    # A class is what training shows; a label seen only in testing is an error that RawData reports.
    if "train" in splits:
        _check_numbering(f"train_labels in {path}", splits["train"].labels)
    labels = (splits.get("train") or splits["test"]).labels
    classes = tuple(str(number) for number in range(int(labels.max()) + 1))
    # What the images show is unknown, so a mirrored one may have another label: no flips.
    notes = {"source": str(path)}
    try:
        raw = RawData(classes, splits.get("train"), splits.get("val"), splits["test"], notes=notes)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    if "train" in splits and all(int(split.images.max()) <= 1 for split in splits.values()):
        warnings.warn(
            f"{path}: no pixel is above 1 of 255, and they are taken as they are; images on a scale of 0 to 1 are "
            "to be multiplied by 255 before they become uint8",
            DataWarning,
            stacklevel=2,
        )
    return raw


def _read(path: Path) -> tuple[_Arrays, list[str]]:
    """Return the arrays of images and labels, and the names of all arrays in the file."""
    wanted = {f"{prefix}{kind}" for prefix in ("", "train_", "val_", "test_") for kind in ("images", "labels")}
    try:
        # Opened here because numpy leaves a file open that turns out not to be an archive.
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if isinstance(archive, np.lib.npyio.NpzFile):
                arrays = {name: archive[name] for name in archive.files if name in wanted}
                return _sound(path, arrays, archive.files), archive.files
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except Exception as error:  # zip, zlib, header and array errors are all of different kinds
        # numpy takes what it does not know for a pickle, and says how to open it unsafely.
        reason = "it is none, or holds Python objects" if "pickle" in str(error) else str(error)
        raise DataError(f"{path} cannot be read as an .npz file of plain arrays ({reason})") from error
    raise DataError(f"{path} is a single array, not an .npz archive; write it with numpy.savez")


def _sound(path: Path, arrays: _Arrays, names: list[str]) -> _Arrays:
    """Return the arrays, if each is there once, and is one: other programs may write anything into a zip archive."""
    if twice := sorted(name for name in arrays if names.count(name) > 1):
        raise DataError(f"{path} holds {twice[0]} more than once; write it anew with numpy.savez")
    if other := sorted(name for name, array in arrays.items() if not isinstance(array, np.ndarray)):
        raise DataError(f"{other[0]} in {path} is no array of NumPy; write it with numpy.savez")
    return arrays


def _prefixes(path: Path, found: list[str]) -> dict[str, str]:
    """Return the prefix of each split's arrays, by split name."""
    prefixes = {name: f"{name}_" for name in _SPLITS if any(key.startswith(f"{name}_") for key in found)}
    prefixes = prefixes or {"test": ""}
    wanted = [f"{prefix}{kind}" for prefix in prefixes.values() for kind in ("images", "labels")]
    missing = [key for key in wanted if key not in found]
    if missing or "test" not in prefixes:
        holds = ", ".join(sorted(found)) or "nothing"
        raise DataError(
            f"{path} must hold train_images, train_labels, test_images, test_labels (and optionally "
            f"val_images, val_labels), or just images and labels; it holds {holds}"
        )
    remarks = Remarks(path)
    for key in sorted(set(found) - set(wanted)):
        if key.lower().endswith(("images", "labels")):
            remarks.add("left out, as train, val and test are the splits there are", key)
    remarks.say()
    return prefixes


def _make_split(path: Path, prefix: str, arrays: _Arrays) -> InMemorySplit:
    images, labels = arrays[f"{prefix}images"], arrays[f"{prefix}labels"]
    where = f"{prefix}images in {path}"
    if images.dtype != np.uint8:
        raise DataError(f"{where} are {images.dtype}{_range(images)}; they must be uint8, 0 to 255")
    if images.ndim in (3, 4) and not len(images):
        raise DataError(f"{where} hold no images, shape {images.shape}; leave the split out, or put some in it")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        shape = arrays[f"{prefix}images"].shape
        moved = "; channels come last: images.transpose(0, 2, 3, 1)" if shape[1:2] in ((1,), (3,)) else ""
        raise DataError(f"{where} have shape {shape}; expected (N, H, W) or (N, H, W, C) with C of 1 or 3{moved}")
    pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return InMemorySplit(torch.from_numpy(pixels), _make_labels(f"{prefix}labels in {path}", labels, len(images)))


def _make_labels(where: str, labels: NDArray[Any], count: int) -> torch.Tensor:
    if labels.dtype.kind not in "iu":
        advice = {
            "f": "labels.astype(int), if they are whole",
            "b": "labels.astype(int)",
        }.get(labels.dtype.kind, "classes, labels = numpy.unique(labels, return_inverse=True)")
        raise DataError(f"{where} are {labels.dtype}; they must be whole numbers of an integer type: {advice}")
    if labels.shape not in ((count,), (count, 1)):
        one_hot = labels.ndim == 2 and labels.shape[0] == count and labels.shape[1] > 1
        advice = "; if they are one-hot, store labels.argmax(axis=1)" if one_hot else ""
        raise DataError(f"{where} have shape {labels.shape}; with {count} images ({count},) is expected{advice}")
    if labels.min() < 0 or labels.max() >= _MOST_CLASSES:
        raise DataError(
            f"{where} run from {labels.min()} to {labels.max()}; classes count from 0 to at most {_MOST_CLASSES - 1}"
        )
    return torch.from_numpy(labels.reshape(-1).astype(np.int64))


def _check_numbering(where: str, labels: torch.Tensor) -> None:
    """Refuse labels that are no class numbers: a number of which few are used, or that starts above 0."""
    numbers = torch.unique(labels).tolist()
    first, last = numbers[0], numbers[-1]
    if first > 0 or 2 * len(numbers) <= last:
        shown = ", ".join(map(str, numbers[:3])) + (f" … {last}" if numbers[4:] else f", {last}" if numbers[3:] else "")
        raise DataError(
            f"{where} are {shown}: of the {last + 1} classes from 0 to {last}, {last + 1 - len(numbers)} would have no "
            "image. Classes count from 0; renumber them: classes, labels = numpy.unique(labels, return_inverse=True)"
        )


def _range(images: NDArray[Any]) -> str:
    if images.dtype.kind not in "iuf" or not images.size:
        return ""
    return f" from {images.min():g} to {images.max():g}"
