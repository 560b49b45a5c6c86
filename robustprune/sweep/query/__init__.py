"""Asking a folder of records: one row a run, one column a figure, conditions in SQL."""

from robustprune.sweep.query.record_rows import load_rows
from robustprune.sweep.query.sql import QueryResult, query

__all__ = ["QueryResult", "load_rows", "query"]
