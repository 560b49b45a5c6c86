"""Running a network that is not trained any more: its logits in one pass, and a copy made for speed."""

from robustprune.inference.frozen import ROUNDINGS, TOLERANCE, accelerate, freeze, shared_copies, tolerance_of
from robustprune.inference.logits import predict_logits

__all__ = ["ROUNDINGS", "TOLERANCE", "accelerate", "freeze", "predict_logits", "shared_copies", "tolerance_of"]
