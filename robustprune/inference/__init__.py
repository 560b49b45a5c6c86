"""Running a network that is not trained any more: its logits in one pass, its last layer, and a copy made for speed."""

from robustprune.inference.frozen import ROUNDINGS, TOLERANCE, accelerate, freeze, tolerance_of
from robustprune.inference.last_layer import (
    NO_FEATURES,
    FoundHead,
    LinearHead,
    average_places,
    catching,
    find_head,
)
from robustprune.inference.logits import predict_logits

__all__ = [
    "NO_FEATURES",
    "ROUNDINGS",
    "TOLERANCE",
    "FoundHead",
    "LinearHead",
    "accelerate",
    "average_places",
    "catching",
    "find_head",
    "freeze",
    "predict_logits",
    "tolerance_of",
]
