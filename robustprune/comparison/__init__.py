"""Candidates against a dense network, from their records: paired statistics and the verdicts of eq. 1."""

from robustprune.comparison.result import Comparison, Row
from robustprune.comparison.run import DENSE, compare

__all__ = ["DENSE", "Comparison", "Row", "compare"]
