"""Running a network that is not trained any more: logits in one pass, and a copy made for speed."""

from robustprune.arrays import Array, to_tensor
from robustprune.inference.forward import (
    failure,
    frozen_parameters,
    logit_gap,
    model_device,
    model_type,
    predict_logits,
    run_model,
    to_unit_range,
)
from robustprune.inference.frozen import ROUNDINGS, TOLERANCE, channels_last, freeze, tolerance_of
from robustprune.inference.graphs import hides_layers
from robustprune.inference.near import Patch
from robustprune.inference.networks import (
    FunctionNetwork,
    as_network,
    copy_network,
    evaluation_mode,
    lazy_layers,
    network_name,
    reason_of,
    run_uncompiled,
    to_evaluation,
    uncompiled,
)
from robustprune.inference.packed import Packed
from robustprune.inference.windowed import Windowed

__all__ = [
    "ROUNDINGS",
    "TOLERANCE",
    "Array",
    "FunctionNetwork",
    "Packed",
    "Patch",
    "Windowed",
    "as_network",
    "channels_last",
    "copy_network",
    "evaluation_mode",
    "failure",
    "freeze",
    "frozen_parameters",
    "hides_layers",
    "lazy_layers",
    "logit_gap",
    "model_device",
    "model_type",
    "network_name",
    "predict_logits",
    "reason_of",
    "run_model",
    "run_uncompiled",
    "to_evaluation",
    "to_tensor",
    "to_unit_range",
    "tolerance_of",
    "uncompiled",
]
