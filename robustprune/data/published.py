"""Published image sets, in the files that they are published as: Fashion-MNIST, CIFAR, SVHN and Tiny ImageNet."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robustprune.data.contract import DatasetRequest, RawData
from robustprune.data.image_folders import list_images
from robustprune.data.registry import find_folder
from robustprune.data.splits import InMemorySplit
from robustprune.data.streaming import stream_files
from robustprune.errors import DataError

_CLOTHES = "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"
_CIFAR_PIXELS = 3 * 32 * 32
_AGAIN = "fetch it again"
_TINY_SIZE = (64, 64)


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
        raise DataError(f"{image_path} holds {len(images)} images and {label_path.name} {len(labels)} labels; {_AGAIN}")
    return InMemorySplit(torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels.astype(np.int64)))


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the array of unsigned bytes in an IDX file, gzipped if its name ends in ``.gz``.

    That is two zero bytes, a type code, the number of dimensions, each dimension as a big-endian 32-bit integer, and
    the values in row-major order.

    Raises:
        DataError: The file is missing or damaged, or is not IDX of unsigned bytes with so many dimensions.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = bytearray(stream.read())
        magic, *shape = struct.unpack_from(f">{1 + dimensions}I", content)
        if magic != 0x0800 + dimensions:  # 8 is the type code of unsigned bytes
            raise ValueError(f"it starts with {content[:4].hex()}")
        return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (OSError, EOFError, zlib.error, struct.error, ValueError) as error:
        raise DataError(
            f"{path} is not an IDX file of unsigned bytes in {dimensions} dimensions ({error}); {_AGAIN}"
        ) from error


def load_cifar10(request: DatasetRequest) -> RawData:
    """CIFAR-10: 60,000 colour 32×32 photographs, 10 classes."""
    batches = [f"data_batch_{number}" for number in range(1, 6)]
    return _load_cifar(find_folder(request), batches, "test_batch", "labels", "batches.meta", "label_names")


def load_cifar100(request: DatasetRequest) -> RawData:
    """CIFAR-100: 60,000 colour 32×32 photographs, 100 classes."""
    return _load_cifar(find_folder(request), ["train"], "test", "fine_labels", "meta", "fine_label_names")


def _load_cifar(folder: Path, train: Sequence[str], test: str, labels_key: str, meta: str, names_key: str) -> RawData:
    classes = _read_cifar(folder / meta).get(names_key)
    if not isinstance(classes, list):
        raise DataError(f"{folder / meta} does not hold {names_key} as published; {_AGAIN}")
    return RawData(
        classes=tuple(map(_text, classes)),
        train=_read_cifar_split([folder / name for name in train], labels_key),
        test=_read_cifar_split([folder / test], labels_key),
        flips=True,
        notes={"source": str(folder)},
    )


def _read_cifar_split(paths: Sequence[Path], labels_key: str) -> InMemorySplit:
    images, labels = [], list[int]()
    for path in paths:
        content = _read_cifar(path)
        pixels, own = content.get("data"), content.get(labels_key, ())
        are_numbers = isinstance(own, list) and all(isinstance(label, int) and 0 <= label < 256 for label in own)
        if not are_numbers or not isinstance(pixels, np.ndarray) or pixels.shape != (len(own), _CIFAR_PIXELS):
            raise DataError(
                f"{path} does not hold rows of {_CIFAR_PIXELS} pixels as data, each with a class number in "
                f"{labels_key}; {_AGAIN}"
            )
        images.append(pixels)
        labels += own
    stacked = np.concatenate(images).reshape(-1, 3, 32, 32)
    return InMemorySplit(torch.from_numpy(stacked), torch.tensor(labels, dtype=torch.int64))


def _read_cifar(path: Path) -> dict[str, Any]:
    content = read_array_pickle(path)
    # Written by Python 3, the keys may be bytes.
    return {_text(key): value for key, value in content.items()} if isinstance(content, dict) else {}


def _text(name: Any) -> str:
    return name.decode(errors="backslashreplace") if isinstance(name, bytes) else str(name)


def read_array_pickle(path: Path) -> Any:
    """Return what a pickle of uint8 arrays, containers, strings and numbers holds; nothing in it is executed.

    A pickle may call any function that it names. Here the only names it may use are those that numpy arrays are
    written with, and each stands for something inert: numpy never sees the pickle's instructions, only a shape and a
    string of bytes. Strings written by Python 2 are read as Latin-1.

    Raises:
        DataError: The file is missing, damaged, or names anything that such arrays have no use for.
    """
    try:
        return _with_arrays(_ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load())
    except Exception as error:  # a damaged pickle raises whatever its stray instructions run into
        raise DataError(
            f"{path} is not a pickle of uint8 arrays ({type(error).__name__}: {error}); {_AGAIN}"
        ) from error


class _Written:
    """Stands for ``numpy.ndarray`` and ``numpy.dtype``: keeps what it is given."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state


def _latin1_bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds bytes encoded as {encoding!r}")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes for Python 2
            return _latin1_bytes
        array_names = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
        if f"{module}.{name}" in (*array_names, "numpy.ndarray", "numpy.dtype"):
            return _Written
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no array needs")


def _with_arrays(value: Any) -> Any:
    if isinstance(value, _Written):
        _, shape, kind, is_column_major, content = value.state
        if kind.arguments[0] != "u1":
            raise pickle.UnpicklingError(f"it holds an array of type {kind.arguments[0]!r}")
        raw = content.encode("latin1") if isinstance(content, str) else content
        return np.frombuffer(bytearray(raw), np.uint8).reshape(shape, order="F" if is_column_major else "C")
    if isinstance(value, dict):
        return {key: _with_arrays(item) for key, item in value.items()}
    return [_with_arrays(item) for item in value] if isinstance(value, list | tuple) else value


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
        images, labels = content["X"], content["y"].reshape(-1)
    except Exception as error:  # damaged MATLAB files raise anything from OSError to TypeError
        raise DataError(f"{path} is not a MATLAB file of arrays X and y ({error}); {_AGAIN}") from error
    fits = images.dtype == np.uint8 and labels.dtype.kind in "iu" and images.shape == (32, 32, 3, len(labels))
    if not fits or not np.isin(labels, range(1, 11)).all():
        raise DataError(f"{path} does not hold X, uint8 (32, 32, 3, N), and y, N numbers from 1 to 10; {_AGAIN}")
    pixels = np.ascontiguousarray(images.transpose(3, 2, 0, 1))
    return InMemorySplit(torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64) % 10))  # 10 is the digit 0


def load_tiny_imagenet(request: DatasetRequest) -> RawData:
    """Tiny ImageNet: 110,000 colour 64×64 photographs, 200 classes (published validation images as test)."""
    # Its test labels were never published, so the validation split comes out of the training images as for any set.
    folder = find_folder(request)
    try:
        classes = tuple(sorted((folder / "wnids.txt").read_text().split()))
        annotations = (folder / "val" / "val_annotations.txt").read_text().splitlines()
        train = [
            (path, number) for number, name in enumerate(classes) for path in list_images(folder / "train" / name, [])
        ]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Tiny ImageNet in {folder} cannot be read ({error}); unpack it again") from error
    test = _annotated(annotations, folder, classes)
    return RawData(
        classes=classes,
        train=stream_files(train, 3, _TINY_SIZE, folder, request.workers),
        test=stream_files(test, 3, _TINY_SIZE, folder, request.workers),
        flips=True,
        notes={"source": str(folder), "layout": "the published validation images are the test split"},
    )


def _annotated(lines: list[str], folder: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    numbers = {name: number for number, name in enumerate(classes)}
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
