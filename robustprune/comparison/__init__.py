"""Candidates against a dense network, from their records: paired statistics and the verdicts of eq. 1."""

from robustprune.comparison.comparing import DENSE, compare, compare_pairs
from robustprune.comparison.comparison_result import Comparison
from robustprune.comparison.comparison_row import ComparisonRow

__all__ = ["DENSE", "Comparison", "ComparisonRow", "compare", "compare_pairs"]
