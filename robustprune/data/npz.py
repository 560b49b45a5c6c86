"""Image sets in one .npz file, laid out as MedMNIST publishes them.

Either ``train_images, train_labels, test_images, test_labels`` (and ``val_images, val_labels``) or just
``images, labels``, which are then the test split. Images are uint8 N×H×W or N×H×W×C with C of 1 or 3; labels
are whole numbers, N or N×1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robustprune.data.contract import DatasetRequest, RawData
from robustprune.data.splits import InMemorySplit
from robustprune.errors import DataError

MOST_CLASSES = 1 << 16  # more is not a class number but something else
RENUMBER = "classes, labels = numpy.unique(labels, return_inverse=True) makes class numbers of any labels"


def load_npz(request: DatasetRequest) -> RawData:
    """One .npz file of train_images, train_labels, test_images, test_labels (val_…), or images, labels."""
    path = request.argument_path()
    arrays, found = _read(path)
    prefixes = {name: f"{name}_" for name in ("train", "val", "test") if f"{name}_images" in arrays} or {"test": ""}
    wanted = {f"{prefix}{kind}" for prefix in prefixes.values() for kind in ("images", "labels")}
    if "test" not in prefixes or not wanted <= arrays.keys():
        raise DataError(
            f"{path} must hold train_images, train_labels, test_images, test_labels (and optionally "
            f"val_images, val_labels), or just images and labels; it holds {', '.join(sorted(found)) or 'nothing'}"
        )
    splits = {name: _make_split(path, prefix, arrays) for name, prefix in prefixes.items()}
    # A class is what training shows; a label seen only in testing is an error that RawData reports.
    labels = splits["train" if "train" in splits else "test"].labels
    last, different = int(labels.max()), len(torch.unique(labels))
    if "train" in splits and (labels.min() > 0 or 2 * different <= last):
        raise DataError(
            f"train_labels in {path} are {different} numbers from {int(labels.min())} to {last}: of the {last + 1} "
            f"classes from 0 to {last}, {last + 1 - different} would have no image. {RENUMBER}"
        )
    try:
        # What the images show is unknown, so a mirrored one may have another label: no flips.
        classes = tuple(map(str, range(last + 1)))
        return RawData(classes, splits.get("train"), splits.get("val"), splits["test"], notes={"source": str(path)})
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _read(path: Path) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return the arrays of images and labels, and the names of all arrays in the file."""
    try:
        # Opened here because numpy leaves a file open that turns out not to be an archive.
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.ndarray):
                wanted = [name for name in archive.files if name.endswith(("images", "labels"))]
                # What is no array of numpy, as other programs may write, becomes one of bytes, which are refused.
                return {name: np.asarray(archive[name]) for name in wanted}, archive.files
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except Exception as error:  # zip, zlib, header and array errors are all of different kinds
        # numpy takes what it does not know for a pickle, and says how to open it unsafely.
        reason = "it is none, or holds Python objects" if "pickle" in str(error) else str(error)
        raise DataError(f"{path} cannot be read as an .npz file of plain arrays ({reason})") from error
    raise DataError(f"{path} is a single array, not an .npz archive; write it with numpy.savez")


def _make_split(path: Path, prefix: str, arrays: dict[str, NDArray[Any]]) -> InMemorySplit:
    images, labels = arrays[f"{prefix}images"], arrays[f"{prefix}labels"]
    shape = images.shape if images.ndim == 4 else (*images.shape, 1)
    if images.dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3) or 0 in shape:
        raise DataError(
            f"{prefix}images in {path} are {images.dtype} of shape {images.shape}; expected uint8, 0 to 255, of shape "
            "(N, H, W) or (N, H, W, C) with C of 1 or 3"
        )
    if labels.dtype.kind not in "iu" or labels.shape not in ((len(images),), (len(images), 1)):
        raise DataError(
            f"{prefix}labels in {path} are {labels.dtype} of shape {labels.shape}; expected {len(images)} whole "
            f"numbers of an integer type, one an image. {RENUMBER}"
        )
    if labels.min() < 0 or labels.max() >= MOST_CLASSES:
        raise DataError(
            f"{prefix}labels in {path} run from {labels.min()} to {labels.max()}; classes count from 0 to at most "
            f"{MOST_CLASSES - 1}. {RENUMBER}"
        )
    pixels = np.ascontiguousarray(images.reshape(shape).transpose(0, 3, 1, 2))
    return InMemorySplit(torch.from_numpy(pixels), torch.from_numpy(labels.reshape(-1).astype(np.int64)))
