"""The report: figures, tables, and one HTML page, from records alone."""

from robustprune.report.writing import write_report

__all__ = ["write_report"]
