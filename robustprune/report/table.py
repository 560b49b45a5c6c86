"""A table, and its text as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Value = str | float | int | None

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~$])")
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "ε": r"$\varepsilon$",
    "ξ": r"$\xi$",
    "∞": r"$\infty$",
    "₂": "$_2$",
    "–": "--",
    "…": r"\dots{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


@dataclass(frozen=True)
class Table:
    """Headings and rows.

    Attributes:
        title: Title, on one line.
        columns: Headings.
        rows: One cell for each heading: text, an unrounded number, or None for an unknown value.
        note: Notes in sentences, or empty.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    note: str = ""

    def __post_init__(self) -> None:
        """Check that it is a table."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title}: a row of {len(row)} cells under {len(self.columns)} headings")

    def to_csv(self) -> str:
        """Return it as comma-separated values (RFC 4180), numbers in full."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\r\n")
        writer.writerow(self.columns)
        writer.writerows([["" if value is None else value for value in row] for row in self.rows])
        return stream.getvalue()

    def to_markdown(self) -> str:
        """Return it in the Markdown of GitHub, numbers for readers."""
        rules = ["---:" if numeric else "---" for numeric in self.is_numeric]
        lines = [self.columns, *self._written()]
        body = [list(map(escape_markdown, line)) for line in lines]
        return "\n".join(f"| {' | '.join(line)} |" for line in [body[0], rules, *body[1:]]) + "\n"

    def to_latex(self) -> str:
        """Return it as a LaTeX ``table`` with booktabs' rules, numbers for readers."""
        lines = [" & ".join(map(escape_latex, line)) + r" \\" for line in [self.columns, *self._written()]]
        note = [f"% {line}" for line in self.note.splitlines()]
        shape = "".join("r" if numeric else "l" for numeric in self.is_numeric)
        return "\n".join(
            [
                r"% \usepackage{booktabs}",
                *note,
                r"\begin{table}",
                r"  \centering",
                rf"  \caption{{{escape_latex(self.title)}}}",
                rf"  \begin{{tabular}}{{{shape}}}",
                r"    \toprule",
                f"    {lines[0]}",
                r"    \midrule",
                # After the end of a row, a bracket would be taken for the space below it.
                *(f"    {'{}' if line.startswith('[') else ''}{line}" for line in lines[1:]),
                r"    \bottomrule",
                r"  \end{tabular}",
                r"\end{table}",
                "",
            ]
        )

    @property
    def is_numeric(self) -> list[bool]:
        """Which columns hold numbers, or text that starts as one."""
        columns = [
            [row[place] for row in self.rows if row[place] not in (None, "")] for place in range(len(self.columns))
        ]
        return [bool(column) and all(map(_is_number, column)) for column in columns]

    def _written(self) -> list[list[str]]:
        return [[write_value(value) for value in row] for row in self.rows]


@dataclass(frozen=True)
class TableSet:
    """The tables that the records have the numbers for; for others, the reason why they are missing."""

    tables: tuple[Table, ...]
    left_out: Mapping[str, str]

    def to_markdown(self) -> str:
        """Return all of them, each under its title and above its note."""
        return "\n".join(
            f"**{escape_markdown(each.title)}**\n\n{each.to_markdown()}\n{each.note}\n" for each in self.tables
        )

    def to_latex(self) -> str:
        """Return all of them as LaTeX, which takes ``booktabs``."""
        return "\n".join(each.to_latex() for each in self.tables)


def escape_markdown(text: str) -> str:
    """Return text as Markdown that prints it, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def escape_latex(text: str) -> str:
    """Return text as LaTeX that prints it."""
    return "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))


def write_value(value: Value) -> str:
    """Return a cell for readers: numbers with at most five digits, an unknown value empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) or re.match(r"[+−-]?\d+(\.\d+)?( ±|$)", str(value)) is not None
