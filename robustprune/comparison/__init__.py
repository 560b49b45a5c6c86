"""Candidates against a dense network, from their records: paired statistics and the verdicts of eq. 1."""

from robustprune.comparison.comparing import DENSE, compare, compare_pairs
from robustprune.comparison.findings import Comparison, ComparisonRow

__all__ = ["DENSE", "Comparison", "ComparisonRow", "compare", "compare_pairs"]
