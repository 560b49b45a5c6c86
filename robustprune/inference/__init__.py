"""Running a network that is not trained any more: logits in one pass, and a copy made for speed."""

from robustprune.inference.forward import (
    Array,
    evaluation_mode,
    frozen_parameters,
    logit_gap,
    model_device,
    predict_logits,
    run_model,
    to_tensor,
    to_unit_range,
)
from robustprune.inference.frozen import TOLERANCE, freeze
from robustprune.inference.near import Patch
from robustprune.inference.packed import Packed
from robustprune.inference.windowed import Windowed

__all__ = [
    "TOLERANCE",
    "Array",
    "Packed",
    "Patch",
    "Windowed",
    "evaluation_mode",
    "freeze",
    "frozen_parameters",
    "logit_gap",
    "model_device",
    "predict_logits",
    "run_model",
    "to_tensor",
    "to_unit_range",
]
