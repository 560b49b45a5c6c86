"""Running a network that is not trained any more: a copy made for speed."""

from robustprune.inference.frozen import ROUNDINGS, TOLERANCE, accelerate, freeze, tolerance_of

__all__ = ["ROUNDINGS", "TOLERANCE", "accelerate", "freeze", "tolerance_of"]
