"""The IDX file format of MNIST and its successors, and Fashion-MNIST, which is published in it.

An IDX file is two zero bytes, a type code (8 is unsigned byte), the number of dimensions, each dimension as a
big-endian 32-bit integer, and the values in row-major order.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from robustprune.data.contract import DatasetRequest, RawData
from robustprune.data.places import find_folder
from robustprune.data.splits import InMemorySplit
from robustprune.errors import DataError

_UNSIGNED_BYTE = 8
_FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def load_fashion_mnist(request: DatasetRequest) -> RawData:
    """Fashion-MNIST: 70,000 grey 28×28 photographs of clothing, 10 classes."""
    folder = find_folder(request)
    return RawData(
        classes=_FASHION,
        train=_read_split(folder, "train"),
        test=_read_split(folder, "t10k"),
        flips=True,
        notes={"source": str(folder)},
    )


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the array of unsigned bytes in an IDX file, gzipped if its name ends in ``.gz``.

    Args:
        path: The file.
        dimensions: How many dimensions the array must have.

    Raises:
        DataError: The file is missing or damaged, is not IDX of unsigned bytes, has another number of
            dimensions, or holds fewer or more bytes than they call for.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            return _parse(stream, path, dimensions)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again") from error


def _parse(stream: BinaryIO | gzip.GzipFile, path: Path, dimensions: int) -> NDArray[Any]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != _UNSIGNED_BYTE:
        raise DataError(f"{path} is not an IDX file of unsigned bytes: it starts with {magic.hex() or 'nothing'}")
    if magic[3] != dimensions:
        raise DataError(f"{path} has {magic[3]} dimensions where {dimensions} are expected")
    header = stream.read(4 * dimensions)
    if len(header) < 4 * dimensions:
        raise DataError(f"{path} ends within its header; fetch it again")
    shape = struct.unpack(f">{dimensions}I", header)
    content = stream.read(math.prod(shape) + 1)
    if len(content) != math.prod(shape):
        relation = "more" if len(content) > math.prod(shape) else f"only {len(content)}"
        raise DataError(f"{path} should hold {math.prod(shape)} bytes for {shape} and holds {relation}; fetch it again")
    return np.frombuffer(bytearray(content), dtype=np.uint8).reshape(shape)


def _read_split(folder: Path, prefix: str) -> InMemorySplit:
    image_path = _plain_or_gzipped(folder / f"{prefix}-images-idx3-ubyte")
    label_path = _plain_or_gzipped(folder / f"{prefix}-labels-idx1-ubyte")
    images, labels = read_idx(image_path, 3), read_idx(label_path, 1)
    if len(images) != len(labels):
        raise DataError(
            f"{image_path} holds {len(images)} images and {label_path.name} {len(labels)} labels; fetch both again"
        )
    return InMemorySplit(torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels.astype(np.int64)))


def _plain_or_gzipped(path: Path) -> Path:
    return path if path.exists() else path.with_name(f"{path.name}.gz")
