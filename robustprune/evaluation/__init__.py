"""Runs the chosen evaluators over one network and gathers what they find in a record; one evaluator a file."""

from robustprune.evaluation.run import evaluate
from robustprune.evaluation.several import evaluate_models, relate_to_dense

__all__ = ["evaluate", "evaluate_models", "relate_to_dense"]
