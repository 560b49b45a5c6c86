"""The page: one self-contained HTML file, which works offline and sends nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import count
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from robustprune._version import __version__
from robustprune.comparison import DENSE, Comparison
from robustprune.records import Record
from robustprune.report.cells import NONE, Cell
from robustprune.report.figures.drawing import Drawing, to_svg
from robustprune.report.grouping import Group
from robustprune.report.record_facts import describe_record
from robustprune.report.table import Table, TableSet, Value, write_value
from robustprune.report.verdicts import all_comparisons, headings, legend, legend_notes, verdict_matrix

_TEMPLATES = Environment(
    loader=PackageLoader("robustprune.report", "web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def make_section(
    group: Group, comparison: Comparison, drawings: Sequence[Drawing], left_out: Mapping[str, str], prefix: str
) -> dict[str, Any]:
    """Return the contents of the section of a group of records; ``prefix`` begins all ids of the section."""
    ids = (f"{prefix}-t{number}" for number in count())
    records = [
        (name, describe_record(record, name, f"{prefix}-{place}-{seed}"))
        for place, (name, found) in enumerate(group.records.items())
        for seed, record in enumerate(found)
    ]
    links: dict[str, list[dict[str, str]]] = {}
    for name, shown in records:
        links.setdefault(name, []).append({"id": shown["id"], "text": shown["title"]})
    matrix = verdict_matrix(comparison, {name: len(found) for name, found in group.records.items()}, prefix)
    rows = all_comparisons(comparison, links, prefix)
    return {
        "id": prefix,
        "title": group.title,
        "answers": [(name, comparison.answer(name, DENSE)) for name in comparison.candidates],
        "look": comparison.look and comparison.look.text,
        "limitations": list(map(_with_code, comparison.limitations)),
        "matrix": matrix | {"payload": _payload(_matrix_table(matrix), next(ids))},
        "legend": legend(comparison.confidence, has_invalid=any(row["verdict"].kind == "invalid" for row in rows)),
        "legend_notes": legend_notes(comparison),
        "choice": comparison.choice,
        "figures": [_show_figure(drawing, f"{prefix}-{drawing.name}", next(ids)) for drawing in drawings],
        "left_out": left_out,
        "comparisons": {
            "columns": [
                Cell(heading, number=place > 1) for place, heading in enumerate(headings(comparison.confidence))
            ],
            "rows": rows,
            "payload": _payload(_comparisons_table(comparison), next(ids)),
        },
        "records": [shown for _, shown in records],
    }


def render_page(
    sections: Sequence[Mapping[str, Any]], records: Sequence[Record], title: str, paper: TableSet | None = None
) -> str:
    """Return the page of some sections, made by :func:`make_section`; equal records make equal pages."""
    style, script = _asset("page.css"), _asset("page.js")
    shown = [_show_table(table, f"paper-t{number}") for number, table in enumerate(paper.tables if paper else ())]
    return _TEMPLATES.get_template("page.html").render(
        sections=sections,
        contents=_contents(sections, has_paper=paper is not None),
        title=title,
        paper=paper and {"tables": shown, "left_out": paper.left_out},
        facts=_facts(records),
        count=len(records),
        version=__version__,
        style=style,
        script=script,
        policy=_policy(script),
    )


def _with_code(text: str) -> Markup:
    """Return a text as HTML, its parts between backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _show_figure(drawing: Drawing, name: str, table_name: str) -> dict[str, Any]:
    return {
        "id": name,
        "title": drawing.title,
        "caption": drawing.caption,
        "svg": Markup(to_svg(drawing, prefix=f"{name}-svg")),
        "table": _show_table(drawing.data, table_name) if drawing.data else None,
    }


def _show_table(table: Table, name: str) -> dict[str, Any]:
    """Return a table as the page shows it; ``name`` is the id of its text to copy."""

    def cell(value: Value, number: bool) -> Cell:
        if value is None:
            return Cell(NONE, number=number)
        return Cell(write_value(value), None if isinstance(value, str) else value, number)

    numeric = table.is_numeric
    return {
        "title": table.title,
        "note": table.note,
        "columns": [Cell(str(column), number=number) for column, number in zip(table.columns, numeric, strict=True)],
        "rows": [list(map(cell, row, numeric)) for row in table.rows],
        "payload": _payload(table, name),
    }


def _payload(table: Table, name: str) -> dict[str, Any]:
    """Return the text of a table to copy, in each format."""
    texts = {"CSV": table.to_csv(), "Markdown": table.to_markdown(), "LaTeX": table.to_latex()}
    return {"id": name, "title": table.title, "texts": texts}


def _matrix_table(matrix: dict[str, Any]) -> Table:
    """Return the table of verdicts to copy, with the text of its cells."""

    def said(cell: dict[str, Any]) -> str:
        verdict = [f"({cell['verdict'].word})"] if cell["verdict"] else []
        return " ".join([cell["value"], *cell["lines"], *verdict])

    columns = ["network", *(column.text for column in matrix["columns"])]
    return Table("Verdicts", columns, [[row["name"], *map(said, row["cells"])] for row in matrix["rows"]])


def _comparisons_table(comparison: Comparison) -> Table:
    """Return all rows of a comparison with unrounded numbers."""
    columns = (
        "network", "metric", "unit", "dense", "value", "difference", "low", "high", "p", "p_holm",
        "tolerance", "bound_low", "bound_high", "p_equivalent", "seeds", "images",
        "verdict", "reason",
    )  # fmt: skip
    rows = [
        [
            *(row.candidate, row.metric, row.unit, row.reference, row.value, row.difference),
            *(row.interval or (None, None)),
            *(row.p_value, row.p_adjusted, row.tolerance, *(row.bounds or (None, None)), row.p_equivalent),
            *(row.n_seeds, row.n_samples, row.verdict, row.reason),
        ]
        for row in comparison.rows
    ]
    return Table("Every metric of each candidate", columns, rows)


def _asset(name: str) -> Markup:
    return Markup(files("robustprune.report").joinpath("web", name).read_text("utf-8"))


def _policy(script: str) -> str:
    """Return the Content-Security-Policy: the page may fetch nothing, and run no script but its own."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _contents(sections: Sequence[Mapping[str, Any]], *, has_paper: bool) -> list[dict[str, Any]]:
    """Return the table of contents: entries with a link, a text, and entries below them."""
    entries = []
    for section in sections:
        own = section["id"]
        figures = [_entry(figure["id"], figure["title"]) for figure in section["figures"]]
        chapters = [
            _entry(f"{own}-answer", "Answer"),
            *([_entry(f"{own}-figures", "Figures", figures)] if figures else []),
            _entry(f"{own}-comparisons", "All comparisons"),
            _entry(f"{own}-records", "Records"),
        ]
        entries += chapters if len(sections) == 1 else [_entry(own, section["title"], chapters)]
    return [*entries, *([_entry("paper", "The paper's tables")] if has_paper else [])]


def _entry(link: str, text: str, below: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    return {"link": link, "text": text, "below": list(below)}


def _facts(records: Sequence[Record]) -> list[str]:
    sets = sorted({f"{record.n:,} {record.split} images of {record.dataset}" for record in records})
    dates = sorted({str(record.environment.get("created", ""))[:10] for record in records} - {""})
    versions = sorted({str(record.environment.get("robustprune", "")) for record in records} - {""})
    when = [f"evaluated {' to '.join(dict.fromkeys((dates[0], dates[-1])))}"] if dates else []
    networks = f"{len(records)} network{'s' if len(records) != 1 else ''}"
    return [networks, *sets, *when, *(f"robustprune {version}" for version in versions)]
