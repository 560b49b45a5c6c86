"""Networks: built by name, or any that is handed over, run on images in [0, 1]; normalization inside."""

from robustprune.models.adapter import normalized
from robustprune.models.architecture import Architecture, known_architecture
from robustprune.models.build import MODELS, architecture_of, build_model, build_network
from robustprune.models.forward import (
    chosen_device,
    frozen_parameters,
    logit_gap,
    logits_of,
    model_device,
    model_type,
    naming_failures,
    placed,
    run_model,
    to_unit_range,
)
from robustprune.models.networks import (
    FunctionNetwork,
    as_network,
    copy_network,
    evaluation_mode,
    hides_layers,
    network_name,
    run_uncompiled,
    to_evaluation,
)
from robustprune.models.own_module import architecture_beside, for_images
from robustprune.models.weight_files import load_weights
from robustprune.runtime.allocation import keep_freed_memory

__all__ = [
    "MODELS",
    "Architecture",
    "FunctionNetwork",
    "architecture_beside",
    "architecture_of",
    "as_network",
    "build_model",
    "build_network",
    "chosen_device",
    "copy_network",
    "evaluation_mode",
    "for_images",
    "frozen_parameters",
    "hides_layers",
    "known_architecture",
    "load_weights",
    "logit_gap",
    "logits_of",
    "model_device",
    "model_type",
    "naming_failures",
    "network_name",
    "normalized",
    "placed",
    "run_model",
    "run_uncompiled",
    "to_evaluation",
    "to_unit_range",
]

# Whatever computes with a network begins here: scoring, training, attacks, evaluation, detection.
keep_freed_memory()
