"""Networks from images in [0, 1] to logits, normalization inside."""

from robustprune.models.architecture import Architecture
from robustprune.models.build import MODELS, architecture_of, build_model, build_network

__all__ = ["MODELS", "Architecture", "architecture_of", "build_model", "build_network"]
