"""Asking a folder of records: one row a run, one column a figure, conditions in SQL."""

from robustprune.sweep.query.ask import Answer, query, rows_kind
from robustprune.sweep.query.rows import load_rows

__all__ = ["Answer", "load_rows", "query", "rows_kind"]
