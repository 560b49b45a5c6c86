"""Image sets that are on every machine: those that come with scikit-learn, and images of nothing.

The latter show what a network does with input far from its training set. They are made at the size and with the
channels asked for, so that they match any network.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from robustprune.data.contract import DatasetRequest, RawData
from robustprune.data.splits import InMemorySplit
from robustprune.data.stratify import stratified_indices
from robustprune.errors import DataError

# The set has no official test part. This one is the same for every user and every seed.
_TEST_FRACTION, _TEST_SEED = 0.2, 0
_COUNT, _SIDE, _CHANNELS = 2000, 32, 3  # of what is cut or made up


def load_digits(request: DatasetRequest) -> RawData:
    """Handwritten digits of scikit-learn: 1,797 grey 8×8 images, 10 classes, embedded."""
    # From its file, as importing scikit-learn takes longer than evaluating a network on the images.
    package = find_spec("sklearn")
    assert package is not None
    rows = np.loadtxt(Path(str(package.origin)).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    images = np.rint(rows[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)  # published as 0 … 16
    whole = InMemorySplit(torch.from_numpy(images), torch.from_numpy(rows[:, -1].astype(np.int64)))
    test = stratified_indices(whole.labels, round(_TEST_FRACTION * len(whole)), _TEST_SEED)
    in_train = torch.ones(len(whole), dtype=torch.bool)
    in_train[test] = False
    return RawData(
        classes=tuple(map(str, range(10))),
        train=whole.subset(in_train.nonzero().squeeze(1)),
        test=whole.subset(test),
        notes={"source": "sklearn.datasets.load_digits", "layout": "fixed stratified 80/20 split, seed 0"},
    )


def load_photo_patches(request: DatasetRequest) -> RawData:
    """Crops of scikit-learn's two sample photographs: 2,000 colour 32×32 images, test only, embedded."""
    from sklearn.datasets import load_sample_images

    photographs = [np.asarray(image) for image in load_sample_images().images]
    side = request.image_size or _SIDE
    largest = min(min(photograph.shape[:2]) for photograph in photographs)
    if side > largest:
        raise DataError(f"photo-patches are at most {largest} pixels a side, asked for {side}")
    patches = np.empty((_COUNT, side, side, 3), dtype=np.uint8)
    labels = np.arange(_COUNT) % len(photographs)
    # Raw 64-bit draws: the same crops on every platform and with every numpy.
    corners = np.random.PCG64(request.seed).random_raw(2 * _COUNT).reshape(_COUNT, 2)
    for patch, label, (down, right) in zip(patches, labels, corners.tolist(), strict=True):
        height, width = photographs[label].shape[:2]
        top, left = down % (height - side + 1), right % (width - side + 1)
        patch[:] = photographs[label][top : top + side, left : left + side]
    images = torch.from_numpy(np.ascontiguousarray(patches.transpose(0, 3, 1, 2)))
    return RawData(
        classes=("china", "flower"),
        test=InMemorySplit(images, torch.from_numpy(labels.astype(np.int64))),
        notes={"source": "sklearn.datasets.load_sample_images", "layout": "random crops, labelled by photograph"},
    )


def load_noise(request: DatasetRequest) -> RawData:
    """Gaussian noise around mid grey (deviation 64 of 255), 2,000 images, test only, synthetic."""
    random, shape = _random(request)
    values = 127.5 + 64.0 * random.standard_normal(shape, dtype=np.float32)
    return _made_up("noise", np.clip(np.rint(values), 0, 255).astype(np.uint8), request)


def load_uniform(request: DatasetRequest) -> RawData:
    """Uniform noise, every pixel and channel on its own, 2,000 images, test only, synthetic."""
    random, shape = _random(request)
    return _made_up("uniform", random.integers(256, size=shape, dtype=np.uint8), request)


def load_constant(request: DatasetRequest) -> RawData:
    """Images of a single random colour each, 2,000 images, test only, synthetic."""
    random, shape = _random(request)
    colours = random.integers(256, size=(*shape[:2], 1, 1), dtype=np.uint8)
    return _made_up("constant", np.broadcast_to(colours, shape).copy(), request)


def _random(request: DatasetRequest) -> tuple[np.random.Generator, tuple[int, int, int, int]]:
    """Return where images that are made up are drawn from, and the shape of all of them."""
    side = request.image_size or _SIDE
    shape = (_COUNT, request.channels or _CHANNELS, side, side)
    return np.random.Generator(np.random.PCG64(request.seed)), shape


def _made_up(kind: str, pixels: NDArray[np.uint8], request: DatasetRequest) -> RawData:
    test = InMemorySplit(torch.from_numpy(pixels), torch.zeros(len(pixels), dtype=torch.int64))
    return RawData(classes=(kind,), test=test, notes={"source": f"synthetic, seed {request.seed}"})
