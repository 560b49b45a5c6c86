"""Files of tensors as others write them: checkpoints of torch.save, and safetensors; nothing in them is executed."""

from __future__ import annotations

import argparse
import pathlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from robustprune.errors import ModelError
from robustprune.registry import missing_package

# What training scripts keep beside their weights: arguments, paths, and figures as numpy's scalars. None runs code.
_PLAIN: list[Any] = [
    argparse.Namespace,
    defaultdict,
    dict,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    np.dtype,
    *(
        getattr(np.dtypes, name)
        for name in ("Float16DType", "Float32DType", "Float64DType", "Int64DType", "Int32DType")
    ),
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]


def read_tensors(path: Path) -> Mapping[Any, Any] | list[Any] | tuple[Any, ...]:
    """Return the containers of tensors in a file.

    Raises:
        ModelError: No such file, a ticket of this package, a file with more than plain values, or none of containers.
        MissingDependencyError: A safetensors file, and safetensors is not installed.
    """
    if not path.is_file():
        raise ModelError(f"there is no file {path} with weights")
    content = _read_safetensors(path) if _is_safetensors(path) else _read_pickled(path)
    kind = content.get("format") if isinstance(content, Mapping) else None
    if isinstance(kind, str) and kind.startswith("robustprune-"):
        raise ModelError(
            f"{path} is a file of this package, a {kind.removeprefix('robustprune-')}, which knows its network; "
            f"name it in its place: --model {path} (load_ticket in Python)"
        )
    nests = isinstance(content, (list, tuple)) and any(isinstance(each, Mapping) for each in content)
    if not (isinstance(content, Mapping) or nests):
        raise ModelError(f"{path} holds a {type(content).__name__}, not named weights")
    return content


def _read_pickled(path: Path) -> Any:
    try:
        with safe_globals(_PLAIN):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen unrelated types here
        raise ModelError(
            f"{path} cannot be read as weights: it is damaged, or holds more than plain tensors and containers"
            f"{_named(path)}, which could run code and is therefore refused; save the network's state_dict() alone"
        ) from error


def _named(path: Path) -> str:
    try:
        names = get_unsafe_globals_in_checkpoint(path)
    except Exception:  # it is no such file at all
        return ""
    return f" ({', '.join(sorted(names)[:3])})" if names else ""


def _is_safetensors(path: Path) -> bool:
    """Return whether a file starts as safetensors do: the length of its header, little-endian, and a JSON object."""
    with path.open("rb") as stream:
        start = stream.read(9)
    return path.suffix == ".safetensors" or (start[8:] == b"{" and int.from_bytes(start[:8], "little") < 1 << 27)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise missing_package(f"reading {path}", "safetensors") from error
    try:
        return load_file(path)
    except Exception as error:  # its errors are of a type of its own, and of the system
        raise ModelError(f"{path} cannot be read as safetensors ({error}); fetch it again") from error
