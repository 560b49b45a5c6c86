"""Running a network that is not trained any more: its logits in one pass, its last layer, and a copy made for speed.

`certify` proves how far no change of an image changes the answer of the network's smoothed classifier.
"""

from robustprune.inference.frozen import ROUNDINGS, TOLERANCE, accelerate, freeze, shared_copies, tolerance_of
from robustprune.inference.last_layer import (
    NO_FEATURES,
    FoundHead,
    LinearHead,
    average_places,
    catching,
    find_head,
)
from robustprune.inference.logits import predict_logits
from robustprune.inference.requests import Certify
from robustprune.inference.smoothing import ABSTAINS, Certificates, certify, predict_smoothed

__all__ = [
    "ABSTAINS",
    "NO_FEATURES",
    "ROUNDINGS",
    "TOLERANCE",
    "Certificates",
    "Certify",
    "FoundHead",
    "LinearHead",
    "accelerate",
    "average_places",
    "catching",
    "certify",
    "find_head",
    "freeze",
    "predict_logits",
    "predict_smoothed",
    "shared_copies",
    "tolerance_of",
]
