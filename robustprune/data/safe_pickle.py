"""Reading pickles that hold arrays and plain containers, and nothing that runs.

A pickle may call any function it names. Here the only names it may use are those numpy arrays are written
with, and each stands for an inert substitute below: numpy itself never sees the pickle's instructions, only a
type code, a shape and a string of bytes.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustprune.errors import DataError


def read_array_pickle(path: Path) -> Any:
    """Return what a pickle of arrays, containers, strings and numbers holds; nothing in it is executed.

    Strings written by Python 2 are read as Latin-1.

    Raises:
        DataError: The file is missing, damaged, or names anything that plain arrays have no use for.
    """
    try:
        return _with_arrays(_ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load())
    except Exception as error:  # a damaged pickle raises whatever its stray instructions run into
        raise DataError(
            f"{path} is not a pickle of plain arrays ({type(error).__name__}: {error}); fetch it again"
        ) from error


class _WrittenType:
    """Stands for ``numpy.dtype``: keeps the type code and the byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code = code
        self.order = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def dtype(self) -> np.dtype[Any]:
        dtype = np.dtype(self.order + self.code)
        if dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"it holds an array of type {self.code!r}")
        return dtype


class _WrittenArray:
    """Stands for ``numpy.ndarray``: keeps the shape, type and bytes until all is read."""

    def __init__(self, *_: Any) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def array(self) -> NDArray[Any]:
        _, shape, written_type, column_major, content = self.state
        raw = content.encode("latin1") if isinstance(content, str) else content
        values = np.frombuffer(bytearray(raw), dtype=written_type.dtype())
        return values.reshape(shape, order="F" if column_major else "C")


def _latin1_bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds bytes encoded as {encoding!r}")
    return text.encode("latin1")


_SUBSTITUTES: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _WrittenArray,
    ("numpy._core.multiarray", "_reconstruct"): _WrittenArray,
    ("numpy", "ndarray"): _WrittenArray,
    ("numpy", "dtype"): _WrittenType,
    ("_codecs", "encode"): _latin1_bytes,  # how Python 3 writes bytes for Python 2
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _SUBSTITUTES[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no array needs") from None


def _with_arrays(value: Any) -> Any:
    if isinstance(value, _WrittenArray):
        return value.array()
    if isinstance(value, dict):
        return {key: _with_arrays(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_arrays(item) for item in value]
    return value
