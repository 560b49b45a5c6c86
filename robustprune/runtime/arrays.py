"""Arrays as others have them: of any byte order and direction, lists of them, numbers in lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustprune.errors import EvaluationError, RobustPruneError, in_one_line

Array = Tensor | np.ndarray[Any, Any]


def to_tensor(values: Any, what: str = "values", error: type[RobustPruneError] = EvaluationError) -> Tensor:
    """Return values as a plain tensor of their type; a tensor is shared, anything else copied.

    They are a tensor, an array of any layout, byte order and direction, a number, or nested lists of these.

    Raises:
        RobustPruneError: They are no numbers, or of several shapes: an ``error`` that calls them ``what``.
    """
    if (
        isinstance(values, Tensor)
        and values.layout == torch.strided
        and not (values.is_complex() or values.is_quantized or values.is_nested or values.is_meta)
    ):
        # Other packages know tensors, and none of the kinds that were made of them.
        return values if type(values) is Tensor else values.as_subclass(Tensor)
    # Copied, as an array may not be writable; torch knows neither negative strides nor byte orders of other machines.
    array = to_numpy(values, what, error)
    is_long_double = array.dtype.kind == "f" and array.dtype.itemsize > 8
    kind = np.dtype(np.float64) if is_long_double else array.dtype.newbyteorder("=")
    return torch.from_numpy(np.array(array, dtype=kind, order="C", copy=True))


def to_numpy(
    values: Any, what: str = "values", error: type[RobustPruneError] = EvaluationError
) -> np.ndarray[Any, Any]:
    """Return values as an array of their type, or float32 for bfloat16; arguments and errors as `to_tensor`."""
    try:
        array = np.asarray(_without_tensors(values))
    except Exception as reason:  # of whatever library the values are
        raise error(f"{what} must be real numbers in an array of one shape: {in_one_line(reason)}") from reason
    if array.dtype.kind not in "biuf":
        found = f"a {type(values).__name__} of {array.dtype}" if array.ndim else f"a {type(values).__name__}"
        raise error(f"{what} must be real numbers in an array of one shape, got {found}")
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise error(f"{what} are a masked array, in which {np.ma.getmaskarray(values).sum()} values are missing")
    return array


def _without_tensors(values: Any) -> Any:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.dequantize() if values.is_quantized else values.to_dense()
        # NumPy has no bfloat16, nor what is shorter.
        is_unknown_to_numpy = values.is_floating_point() and values.dtype not in (
            torch.float16,
            torch.float32,
            torch.float64,
        )
        return (values.float() if is_unknown_to_numpy else values.resolve_conj()).numpy()
    if isinstance(values, list | tuple) and any(isinstance(each, Tensor | list | tuple) for each in values):
        return [_without_tensors(each) for each in values]
    return values
