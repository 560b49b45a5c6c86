"""Street View House Numbers, cropped digits, in the MATLAB files they are published as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from robustprune.data.contract import DatasetRequest, RawData
from robustprune.data.places import find_folder
from robustprune.data.splits import InMemorySplit
from robustprune.errors import DataError


def load_svhn(request: DatasetRequest) -> RawData:
    """SVHN: 99,289 colour 32×32 photographs of house number digits, 10 classes."""
    folder = find_folder(request)
    return RawData(
        classes=tuple("0123456789"),
        train=_read_split(folder / "train_32x32.mat"),
        test=_read_split(folder / "test_32x32.mat"),
        notes={"source": str(folder)},
    )


def _read_split(path: Path) -> InMemorySplit:
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=["X", "y"])
    except Exception as error:  # damaged MATLAB files raise anything from OSError to TypeError
        raise DataError(f"{path} is not a MATLAB file of images ({error}); fetch it again") from error
    if "X" not in content or "y" not in content:
        raise DataError(f"{path} does not hold the arrays X and y as published; fetch it again")
    images, labels = content["X"], content["y"].reshape(-1)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (32, 32, 3):
        raise DataError(f"X in {path} is {images.dtype} {images.shape}, not uint8 (32, 32, 3, N); fetch it again")
    if len(labels) != images.shape[3] or labels.dtype.kind not in "iu":
        raise DataError(f"y in {path} is not one whole number an image; fetch it again")
    digits = labels.astype(np.int64)
    if digits.size and (digits.min() < 1 or digits.max() > 10):
        raise DataError(f"y in {path} has values outside 1 … 10; fetch it again")
    pixels = np.ascontiguousarray(images.transpose(3, 2, 0, 1))
    return InMemorySplit(torch.from_numpy(pixels), torch.from_numpy(digits % 10))  # 10 stands for the digit 0
