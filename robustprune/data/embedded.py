"""Image sets that come with scikit-learn: nothing to download, on any machine."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robustprune.data.contract import DatasetRequest, RawData
from robustprune.data.splits import InMemorySplit
from robustprune.data.stratify import stratified_indices
from robustprune.errors import DataError

# The set has no official test part. This one is the same for every user and every seed.
_TEST_FRACTION, _TEST_SEED = 0.2, 0
_PATCHES, _PATCH_SIDE = 2000, 32


def load_digits(request: DatasetRequest) -> RawData:
    """Handwritten digits of scikit-learn: 1,797 grey 8×8 images, 10 classes, embedded."""
    pixels, labels = _read_digits()
    images = np.rint(pixels * (255 / 16)).astype(np.uint8)  # published as 0 … 16
    whole = InMemorySplit(torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels.astype(np.int64)))
    test = stratified_indices(whole.labels, round(_TEST_FRACTION * len(whole)), _TEST_SEED)
    in_train = torch.ones(len(whole), dtype=torch.bool)
    in_train[test] = False
    return RawData(
        classes=tuple(map(str, range(10))),
        train=whole.subset(in_train.nonzero().squeeze(1)),
        test=whole.subset(test),
        notes={"source": "sklearn.datasets.load_digits", "layout": "fixed stratified 80/20 split, seed 0"},
    )


def _read_digits() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return images (N, 8, 8), 0 … 16, and labels (N,) as scikit-learn does.

    From its file, as importing scikit-learn takes longer than evaluating a network on the images.
    """
    package = find_spec("sklearn")
    path = Path(str(package.origin if package else "")).parent / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():  # a version that keeps it elsewhere
        from sklearn.datasets import load_digits as read

        bunch = read()
        return bunch.images, bunch.target
    rows = np.loadtxt(path, delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1]


def load_photo_patches(request: DatasetRequest) -> RawData:
    """Crops of scikit-learn's two sample photographs: 2,000 colour 32×32 images, test only, embedded."""
    from sklearn.datasets import load_sample_images

    photographs = [np.asarray(image) for image in load_sample_images().images]
    side = request.image_size or _PATCH_SIDE
    largest = min(min(photograph.shape[:2]) for photograph in photographs)
    if side > largest:
        raise DataError(f"photo-patches are at most {largest} pixels a side, asked for {side}")
    patches = np.empty((_PATCHES, side, side, 3), dtype=np.uint8)
    labels = np.arange(_PATCHES) % len(photographs)
    # Raw 64-bit draws: the same crops on every platform and with every numpy.
    corners = np.random.PCG64(request.seed).random_raw(2 * _PATCHES).reshape(_PATCHES, 2)
    for patch, label, (down, right) in zip(patches, labels, corners.tolist(), strict=True):
        height, width = photographs[label].shape[:2]
        top, left = down % (height - side + 1), right % (width - side + 1)
        patch[:] = photographs[label][top : top + side, left : left + side]
    images = torch.from_numpy(np.ascontiguousarray(patches.transpose(0, 3, 1, 2)))
    return RawData(
        classes=("china", "flower"),
        test=InMemorySplit(images, torch.from_numpy(labels.astype(np.int64))),
        notes={
            "source": "sklearn.datasets.load_sample_images",
            "layout": "random crops, labelled by photograph",
        },
    )
