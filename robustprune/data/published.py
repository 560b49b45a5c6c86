"""Published image sets, in the files that they are published as: Fashion-MNIST, CIFAR, SVHN and Tiny ImageNet."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from robustprune.data.contract import DatasetRequest, RawData, Remarks
from robustprune.data.image_files import list_images
from robustprune.data.registry import find_folder
from robustprune.data.safe_pickle import read_array_pickle
from robustprune.data.splits import InMemorySplit
from robustprune.data.streaming import StreamedSplit
from robustprune.errors import DataError

_CLOTHES = "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"
_UNSIGNED_BYTE = 8  # of the type codes of IDX
_CIFAR_PIXELS = 3 * 32 * 32
_TINY_SIDE = 64


def load_fashion_mnist(request: DatasetRequest) -> RawData:
    """Fashion-MNIST: 70,000 grey 28×28 photographs of clothing, 10 classes."""
    folder = find_folder(request)
    return RawData(
        classes=tuple(_CLOTHES.split(", ")),
        train=_read_idx_split(folder, "train"),
        test=_read_idx_split(folder, "t10k"),
        flips=True,
        notes={"source": str(folder)},
    )


def _read_idx_split(folder: Path, prefix: str) -> InMemorySplit:
    plain = [folder / f"{prefix}-images-idx3-ubyte", folder / f"{prefix}-labels-idx1-ubyte"]
    image_path, label_path = (path if path.exists() else path.with_name(f"{path.name}.gz") for path in plain)
    images, labels = read_idx(image_path, 3), read_idx(label_path, 1)
    if len(images) != len(labels):
        raise DataError(
            f"{image_path} holds {len(images)} images and {label_path.name} {len(labels)} labels; fetch both again"
        )
    return InMemorySplit(torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels.astype(np.int64)))


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the array of unsigned bytes in an IDX file, gzipped if its name ends in ``.gz``.

    That is two zero bytes, a type code, the number of dimensions, each dimension as a big-endian 32-bit integer, and
    the values in row-major order.

    Args:
        path: The file.
        dimensions: How many dimensions the array must have.

    Raises:
        DataError: The file is missing or damaged, is not IDX of unsigned bytes, has another number of
            dimensions, or holds fewer or more bytes than they call for.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            return _parse_idx(stream, path, dimensions)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again") from error


def _parse_idx(stream: BinaryIO | gzip.GzipFile, path: Path, dimensions: int) -> NDArray[Any]:
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


def load_cifar10(request: DatasetRequest) -> RawData:
    """CIFAR-10: 60,000 colour 32×32 photographs, 10 classes."""
    folder = find_folder(request)
    batches = [folder / f"data_batch_{number}" for number in range(1, 6)]
    classes = _read_cifar(folder / "batches.meta", "label_names")["label_names"]
    return _load_cifar(folder, classes, batches, folder / "test_batch", "labels")


def load_cifar100(request: DatasetRequest) -> RawData:
    """CIFAR-100: 60,000 colour 32×32 photographs, 100 classes."""
    folder = find_folder(request)
    classes = _read_cifar(folder / "meta", "fine_label_names")["fine_label_names"]
    return _load_cifar(folder, classes, [folder / "train"], folder / "test", "fine_labels")


def _load_cifar(folder: Path, classes: Sequence[Any], train: Sequence[Path], test: Path, labels_key: str) -> RawData:
    return RawData(
        classes=tuple(_text(name) for name in classes),
        train=_read_cifar_split(train, labels_key),
        test=_read_cifar_split([test], labels_key),
        flips=True,
        notes={"source": str(folder)},
    )


def _read_cifar_split(paths: Sequence[Path], labels_key: str) -> InMemorySplit:
    images, labels = [], []
    for path in paths:
        content = _read_cifar(path, "data", labels_key)
        pixels = content["data"]
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (_CIFAR_PIXELS,):
            raise DataError(f"'data' in {path} is not an array of uint8 rows of {_CIFAR_PIXELS}; fetch it again")
        if len(content[labels_key]) != len(pixels):
            raise DataError(f"{path} holds {len(pixels)} images and {len(content[labels_key])} labels; fetch it again")
        images.append(pixels)
        labels.extend(content[labels_key])
    if not all(isinstance(label, int) and 0 <= label < 256 for label in labels):
        raise DataError(f"{labels_key!r} in {paths[0].parent} are not all class numbers; fetch the set again")
    stacked = np.concatenate(images).reshape(-1, 3, 32, 32)
    return InMemorySplit(torch.from_numpy(stacked), torch.tensor(labels, dtype=torch.int64))


def _read_cifar(path: Path, *keys: str) -> dict[str, Any]:
    content = read_array_pickle(path)
    if isinstance(content, dict):  # written by Python 3, the keys may be bytes
        content = {_text(key): value for key, value in content.items()}
        if all(isinstance(content.get(key), (list, tuple, np.ndarray)) for key in keys):
            return content
    raise DataError(f"{path} does not hold {' and '.join(keys)} as published; fetch it again")


def _text(name: Any) -> str:
    return name.decode(errors="backslashreplace") if isinstance(name, bytes) else str(name)


def load_svhn(request: DatasetRequest) -> RawData:
    """SVHN: 99,289 colour 32×32 photographs of house number digits, 10 classes."""
    folder = find_folder(request)
    return RawData(
        classes=tuple("0123456789"),
        train=_read_svhn_split(folder / "train_32x32.mat"),
        test=_read_svhn_split(folder / "test_32x32.mat"),
        notes={"source": str(folder)},
    )


def _read_svhn_split(path: Path) -> InMemorySplit:
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


def load_tiny_imagenet(request: DatasetRequest) -> RawData:
    """Tiny ImageNet: 110,000 colour 64×64 photographs, 200 classes (published validation images as test)."""
    # Its test labels were never published, so the validation split comes out of the training images as for any set.
    folder = find_folder(request)
    try:
        classes = tuple(sorted((folder / "wnids.txt").read_text().split()))
        annotations = (folder / "val" / "val_annotations.txt").read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Tiny ImageNet in {folder} cannot be read ({error}); unpack it again") from error
    numbers = {name: number for number, name in enumerate(classes)}
    test = _annotated(annotations, folder, numbers)
    remarks = Remarks(folder)
    train = [(path, numbers[name]) for name in classes for path in _tiny_images(folder, name, remarks)]
    remarks.say()

    def split(labelled: Sequence[tuple[Path, int]]) -> StreamedSplit:
        labels = torch.tensor([label for _, label in labelled], dtype=torch.int64)
        paths = tuple(path for path, _ in labelled)
        return StreamedSplit(paths, labels, 3, (_TINY_SIDE, _TINY_SIDE), folder, request.workers)

    return RawData(
        classes=classes,
        train=split(train),
        test=split(test),
        flips=True,
        notes={"source": str(folder), "layout": "the published validation images are the test split"},
    )


def _tiny_images(folder: Path, name: str, remarks: Remarks) -> list[Path]:
    place = folder / "train" / name / "images"
    paths = list_images(place, remarks) if place.is_dir() else []
    if not paths:
        raise DataError(f"{place} holds no images; unpack Tiny ImageNet again")
    return paths


def _annotated(lines: list[str], folder: Path, numbers: dict[str, int]) -> list[tuple[Path, int]]:
    found = []
    for line in filter(None, lines):
        name, owner, *_ = [*line.split("\t", 2), ""]
        if owner not in numbers:
            raise DataError(
                f"{folder / 'val' / 'val_annotations.txt'} gives {name!r} the class {owner!r}, "
                "which wnids.txt does not list; unpack Tiny ImageNet again"
            )
        found.append((folder / "val" / "images" / name, numbers[owner]))
    return found
