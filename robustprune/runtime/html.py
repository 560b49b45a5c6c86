"""A small table as HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from robustprune.runtime.files import printable

_LEFT, _RIGHT = "text-align:left", "text-align:right"
_OWN = "color:inherit"  # tables without it are black in pages without a doctype


def html_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], notes: Sequence[str] = ()) -> str:
    """Return a table as one ``<div>`` that can stand in a notebook, all text escaped.

    It has no colours of its own, and so is as readable on dark paper as on light.

    Args:
        title: What it shows, in a line.
        columns: Headings; those that start with ``>`` are right-aligned, with what is below them.
        rows: Cells; None is empty. A row with nothing but a first cell is a heading of those below it.
        notes: Sentences below the table.
    """
    styles = [_RIGHT if name.startswith(">") else _LEFT for name in columns]
    head = "".join(_cell("th", style, name.removeprefix(">")) for style, name in zip(styles, columns, strict=True))
    body = "".join(f"<tr>{_row(row, styles)}</tr>" for row in rows)
    caption = f'<caption style="{_LEFT};{_OWN};caption-side:top;white-space:nowrap">{_text(title)}</caption>'
    table = f'<table style="{_OWN}">{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f"<div>{table}{html_paragraphs(notes)}</div>"


def html_paragraphs(texts: Sequence[str]) -> str:
    """Return texts as paragraphs of HTML, escaped."""
    return "".join(f"<p>{_text(text)}</p>" for text in texts)


def _row(row: Sequence[object], styles: Sequence[str]) -> str:
    if len(row) > 1 and all(cell in (None, "") for cell in row[1:]):
        return f'<th colspan="{len(styles)}" style="{_LEFT}">{_text(row[0])}</th>'
    return "".join(_cell("td", style, cell) for style, cell in zip(styles, row, strict=True))


def _cell(tag: str, style: str, content: object) -> str:
    return f'<{tag} style="{style}">{_text(content)}</{tag}>'


def _text(content: object) -> str:
    return "" if content is None else escape(printable(str(content)))
