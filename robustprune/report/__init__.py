"""The report: figures, tables, and one HTML page, from records alone."""

from robustprune.report.notebook import Figures, show
from robustprune.report.writing import write_report

__all__ = ["Figures", "show", "write_report"]
