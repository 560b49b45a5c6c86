"""Figures of merit: arrays in, numbers out. Tensors or arrays are taken, the arithmetic is in float64."""

from robustprune.metrics.certified_radii import (
    average_certified_radius,
    certified_accuracy,
    certified_radius,
    is_majority,
    probability_low,
    proven,
)
from robustprune.metrics.cka import LEAST_SAMPLES, MeanCka, centred_gram, linear_cka
from robustprune.metrics.classification import (
    accuracy,
    area_under_risk_coverage,
    brier_score,
    confidence_bins,
    expected_calibration_error,
    negative_log_likelihood,
    risk_coverage,
    sample_figures,
    wilson_interval,
)
from robustprune.metrics.detection import DetectionFigures, detection_figures, detection_intervals, shares_below
from robustprune.metrics.medians import median_interval, resampled_medians
from robustprune.metrics.optimality import Optimality, attack_optimality
from robustprune.metrics.seeds import SeedMean, mean_and_half_width, mean_interval, mean_over_seeds

__all__ = [
    "LEAST_SAMPLES",
    "DetectionFigures",
    "MeanCka",
    "Optimality",
    "SeedMean",
    "accuracy",
    "area_under_risk_coverage",
    "attack_optimality",
    "average_certified_radius",
    "brier_score",
    "centred_gram",
    "certified_accuracy",
    "certified_radius",
    "confidence_bins",
    "detection_figures",
    "detection_intervals",
    "expected_calibration_error",
    "is_majority",
    "linear_cka",
    "mean_and_half_width",
    "mean_interval",
    "mean_over_seeds",
    "median_interval",
    "negative_log_likelihood",
    "probability_low",
    "proven",
    "resampled_medians",
    "risk_coverage",
    "sample_figures",
    "shares_below",
    "wilson_interval",
]
