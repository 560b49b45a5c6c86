"""Running a network that is not trained any more: a copy made for speed."""

from robustprune.inference.frozen import ROUNDINGS, TOLERANCE, freeze, tolerance_of
from robustprune.inference.near import Patch
from robustprune.inference.packed import Packed
from robustprune.inference.windowed import Windowed

__all__ = ["ROUNDINGS", "TOLERANCE", "Packed", "Patch", "Windowed", "freeze", "tolerance_of"]
