"""Runs the chosen evaluators over networks and gathers what they find in records; one evaluator a file."""

from robustprune.evaluation.corruptions import relate_to_dense
from robustprune.evaluation.evaluators import evaluate, evaluate_models
from robustprune.evaluation.requests import Evaluation, Shift

__all__ = ["Evaluation", "Shift", "evaluate", "evaluate_models", "relate_to_dense"]
