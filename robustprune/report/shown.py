"""Tables on their way into the page: cells as text, and the whole in the three formats it can be copied in."""

from __future__ import annotations

from typing import Any

from robustprune.comparison import Comparison
from robustprune.report.cells import NONE, Cell
from robustprune.report.tables import Table, Value, write_value


def show_table(table: Table, name: str) -> dict[str, Any]:
    """Return a table as the page shows it; ``name`` is the id of what is copied."""
    numeric = table.is_numeric
    return {
        "title": table.title,
        "note": table.note,
        "columns": [Cell(str(column), number=number) for column, number in zip(table.columns, numeric, strict=True)],
        "rows": [[_cell(value, number) for value, number in zip(row, numeric, strict=True)] for row in table.rows],
        "payload": show_payload(table, name),
    }


def show_payload(table: Table, name: str) -> dict[str, Any]:
    """Return what is copied of a table, by format."""
    texts = {"CSV": table.to_csv(), "Markdown": table.to_markdown(), "LaTeX": table.to_latex()}
    return {"id": name, "title": table.title, "texts": texts}


def matrix_table(matrix: dict[str, Any], title: str) -> Table:
    """Return the table of verdicts in a form that can be copied: what its cells say."""
    columns = ["network", *(column.text for column in matrix["columns"])]
    rows = [[row["name"], *(_said(cell) for cell in row["cells"])] for row in matrix["rows"]]
    return Table(title, columns, rows)


def comparisons_table(comparison: Comparison) -> Table:
    """Return all rows of a comparison with their numbers as they are."""
    columns = (
        "network", "metric", "unit", "dense", "value", "difference", "low", "high", "p", "p_holm", "seeds", "images",
        "verdict", "reason",
    )  # fmt: skip
    rows = [
        [
            *(row.candidate, row.metric, row.unit, row.dense, row.value, row.difference),
            *(row.interval or (None, None)),
            *(row.p_value, row.p_adjusted, row.n_seeds, row.n_samples, row.verdict, row.reason),
        ]
        for row in comparison.rows
    ]
    return Table("All comparisons", columns, rows)


def _said(cell: dict[str, Any]) -> str:
    verdict = cell["verdict"]
    return " ".join([cell["value"], *cell["lines"], *([f"({verdict.word})"] if verdict else [])])


def _cell(value: Value, number: bool) -> Cell:
    if value is None:
        return Cell(NONE, number=number)
    return Cell(write_value(value), None if isinstance(value, str) else value, number=number)
