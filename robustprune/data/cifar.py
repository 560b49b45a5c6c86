"""CIFAR-10 and CIFAR-100 in the folders of pickles they are published as."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robustprune.data.contract import DatasetRequest, RawData
from robustprune.data.places import find_folder
from robustprune.data.safe_pickle import read_array_pickle
from robustprune.data.splits import InMemorySplit
from robustprune.errors import DataError

_PIXELS = 3 * 32 * 32


def load_cifar10(request: DatasetRequest) -> RawData:
    """CIFAR-10: 60,000 colour 32×32 photographs, 10 classes."""
    folder = find_folder(request)
    batches = [folder / f"data_batch_{number}" for number in range(1, 6)]
    return _load(folder, batches, folder / "test_batch", folder / "batches.meta", "label_names", "labels")


def load_cifar100(request: DatasetRequest) -> RawData:
    """CIFAR-100: 60,000 colour 32×32 photographs, 100 classes."""
    folder = find_folder(request)
    return _load(folder, [folder / "train"], folder / "test", folder / "meta", "fine_label_names", "fine_labels")


def _load(folder: Path, train: Sequence[Path], test: Path, meta: Path, names_key: str, labels_key: str) -> RawData:
    names = _read(meta, names_key)[names_key]
    return RawData(
        classes=tuple(_text(name) for name in names),
        train=_read_split(train, labels_key),
        test=_read_split([test], labels_key),
        flips=True,
        notes={"source": str(folder)},
    )


def _read_split(paths: Sequence[Path], labels_key: str) -> InMemorySplit:
    images, labels = [], []
    for path in paths:
        content = _read(path, "data", labels_key)
        pixels = content["data"]
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (_PIXELS,):
            raise DataError(f"'data' in {path} is not an array of uint8 rows of {_PIXELS}; fetch it again")
        if len(content[labels_key]) != len(pixels):
            raise DataError(f"{path} holds {len(pixels)} images and {len(content[labels_key])} labels; fetch it again")
        images.append(pixels)
        labels.extend(content[labels_key])
    if not all(isinstance(label, int) and 0 <= label < 256 for label in labels):
        raise DataError(f"{labels_key!r} in {paths[0].parent} are not all class numbers; fetch the set again")
    stacked = np.concatenate(images).reshape(-1, 3, 32, 32)
    return InMemorySplit(torch.from_numpy(stacked), torch.tensor(labels, dtype=torch.int64))


def _read(path: Path, *keys: str) -> dict[str, Any]:
    content = read_array_pickle(path)
    if isinstance(content, dict):  # written by Python 3, the keys may be bytes
        content = {_text(key): value for key, value in content.items()}
        if all(key in content for key in keys):
            sized = all(isinstance(content[key], (list, tuple, np.ndarray)) for key in keys)
            if sized:
                return content
    raise DataError(f"{path} does not hold {' and '.join(keys)} as published; fetch it again")


def _text(name: Any) -> str:
    return name.decode(errors="backslashreplace") if isinstance(name, bytes) else str(name)
