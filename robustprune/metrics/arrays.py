"""The kinds of arrays that metrics are computed from."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

Array = Tensor | np.ndarray[Any, Any]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Integers = np.ndarray[Any, np.dtype[np.int64]]


def to_numpy(values: Array) -> np.ndarray[Any, Any]:
    """Return a tensor, wherever it is and whatever its gradient, or an array as an array."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        # NumPy has no bfloat16.
        return (values.double() if values.is_floating_point() else values).numpy()
    return np.asarray(values)
