"""Asking a folder of records: one row a run, one column a figure, conditions in SQL."""

from robustprune.sweep.query.ask import QueryAnswer, query
from robustprune.sweep.query.record_rows import load_rows

__all__ = ["QueryAnswer", "load_rows", "query"]
