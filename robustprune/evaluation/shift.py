"""Accuracy on images of the same classes that were gathered elsewhere: CIFAR-10.1, CIFAR-10.2, or your own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from robustprune.corruptions.corruption_result import ShiftEntry
from robustprune.data import ImageData
from robustprune.data.contract import DatasetRequest
from robustprune.data.npz import load_npz
from robustprune.data.pixels import convert_channels, resize_images
from robustprune.data.released import load_shifted_folder
from robustprune.errors import DataError
from robustprune.evaluation.clean import spread_logits
from robustprune.metrics import accuracy, wilson_interval
from robustprune.records import Samples
from robustprune.runtime.files import user_path
from robustprune.runtime.work import Work

# CIFAR-10.1 (Recht et al. 2018, arXiv:1806.00451) is two arrays, v6 the one to use; CIFAR-10.2 (Lu et al. 2020) one
# archive, of which the test part is meant.
_TWO_ARRAYS = ("cifar10.1_v6_data.npy", "cifar10.1_v6_labels.npy")
_ARCHIVE = "cifar102_test.npz"


def run_shift(
    network: nn.Module,
    shifted: Mapping[str, tuple[Tensor, Tensor]],
    clean_accuracy: float,
    batch_size: int,
    work: Work,
) -> tuple[list[ShiftEntry], Samples]:
    """Return an entry per shifted set, and the predictions and labels of its images.

    ``shifted`` are images and labels from `load_shift`; gaps are to the accuracy on the images evaluated.
    """
    entries: list[ShiftEntry] = []
    samples: Samples = {}
    for place, (name, (images, labels)) in enumerate(shifted.items()):
        logits = spread_logits(network, images, batch_size, work, name)
        predictions = logits.argmax(dim=1)
        samples |= {f"shift{place}_prediction": predictions.numpy(), f"shift{place}_label": labels.numpy()}
        found = accuracy(logits, labels)
        entries.append(
            ShiftEntry(
                name=name,
                n=len(labels),
                accuracy=found,
                interval=wilson_interval(int((predictions == labels).sum()), len(labels)),
                gap=clean_accuracy - found,
            )
        )
    return entries, samples


def load_shift(where: str, data: ImageData) -> tuple[Tensor, Tensor]:
    """Return the images and labels of a shifted set, converted to the size and channels of another.

    Raises:
        DataError: It is missing, damaged, or of other classes.
    """
    kind, colon, place = where.partition(":")
    if colon and kind == "imagefolder":
        folder = user_path(place)
        split = load_shifted_folder(folder.resolve(), data.classes, data.image_size, data.channels)
        return split.images, split.labels
    path = user_path(place if colon and kind == "npz" else where)
    images, labels = _known_folder(path) if path.is_dir() else _archive(path)
    if int(labels.max()) >= data.num_classes:
        raise DataError(f"{path} has labels up to {int(labels.max())}, {data.name} only {data.num_classes} classes")
    return resize_images(convert_channels(images, data.channels), data.image_size), labels


def _known_folder(folder: Path) -> tuple[Tensor, Tensor]:
    if all((folder / name).is_file() for name in _TWO_ARRAYS):
        return _two_arrays(folder)
    if (folder / _ARCHIVE).is_file():
        return _archive(folder / _ARCHIVE)
    raise DataError(
        f"{folder} holds neither {' and '.join(_TWO_ARRAYS)} (CIFAR-10.1) nor {_ARCHIVE} (CIFAR-10.2); a folder of "
        "image files is named as imagefolder:DIR"
    )


def _archive(path: Path) -> tuple[Tensor, Tensor]:
    raw = load_npz(DatasetRequest(f"npz:{path}"))
    assert raw.test is not None
    return raw.test.images, raw.test.labels


def _two_arrays(folder: Path) -> tuple[Tensor, Tensor]:
    try:
        images, labels = (np.load(folder / name, allow_pickle=False) for name in _TWO_ARRAYS)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"CIFAR-10.1 in {folder} cannot be read ({error}); fetch it again") from error
    if images.dtype != np.uint8 or images.ndim != 4 or labels.shape != images.shape[:1]:
        raise DataError(f"CIFAR-10.1 in {folder} is not uint8 (N, H, W, C) with N labels; fetch it again")
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return pixels, torch.from_numpy(labels.astype(np.int64))
