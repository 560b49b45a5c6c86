"""Writes a report of records to disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from robustprune.comparison import DENSE, Comparison, compare
from robustprune.comparison.interim_look import InterimLook, find_look
from robustprune.comparison.verdict import TOLERANCES, Tolerance
from robustprune.records import Record
from robustprune.report.figures import draw_all
from robustprune.report.figures.drawing import save_figures, slug, write_file
from robustprune.report.grouping import Group, load_groups, make_group
from robustprune.report.page import make_section, render_page
from robustprune.report.table import TableSet
from robustprune.runtime.file_kinds import MARK, PAGE, TABLES
from robustprune.runtime.files import printable
from robustprune.runtime.work import Progress


def write_report(
    records: Mapping[str, Sequence[Record]] | Sequence[str | Path] | str | Path,
    out: str | Path,
    *,
    title: str | None = None,
    tolerance: Tolerance = TOLERANCES,
    figures: str | Path | None = None,
    tables: Callable[[Sequence[Record]], TableSet] | None = None,
    progress: Progress | None = None,
) -> dict[str, Comparison]:
    """Compare networks and write the result as one HTML file that works offline.

    Args:
        records: Name → records of a method's seeds, ``dense`` among them; or folders and files of records, which are
            grouped by their contents; or ``name=FILE,FILE``. Each image set, architecture and way of training is a part
            of the report. For the folder of a sweep that trained until its verdicts were decided, intervals have the
            confidence of its last look.
        out: The file to write.
        title: Title of the page; by default made from the records.
        tolerance: ξ of eq. 1, see :func:`robustprune.compare`.
        figures: A folder to write each figure to, as PDF, SVG and PNG.
        tables: Makes further tables from the records, as :func:`robustprune.lottery.paper_tables` does; they are added
            to the page, and written beside it as ``.md`` and ``.tex``.
        progress: Called as work proceeds.

    Returns:
        Title of each part of the report → its comparison.

    Raises:
        ReportError: There is no record of a dense network, or the file cannot be written.
        ComparisonError: Records that cannot be compared, or none in a folder.
        EvaluationError: A record cannot be read.
    """
    tell = progress or (lambda _label, _done, _total: None)
    if isinstance(records, Mapping):
        groups = [make_group(records)]
    else:
        groups = load_groups([records] if isinstance(records, str | Path) else records)
    look = (
        None if isinstance(records, Mapping) else find_look([records] if isinstance(records, str | Path) else records)
    )
    sections, found = [], {}
    folders = _folders(figures, [group.title for group in groups])
    for place, group in enumerate(groups):
        tell("comparing", place, len(groups))
        found[group.title] = comparison = _compare(group, tolerance, look)
        tell("drawing", place, len(groups))
        left_out: dict[str, str] = {}
        drawings = list(draw_all(group.records, left_out))
        if folders:
            save_figures(drawings, folders[place])
        sections.append(make_section(group, comparison, drawings, left_out, f"s{place + 1}"))
    shown = [record for group in groups for records_of in group.records.values() for record in records_of]
    further = None if tables is None else tables(shown)
    title = title or f"Pruned vs. dense{f': {groups[0].title}' if len(groups) == 1 else ' networks'}"
    page = render_page(sections, shown, title, further)
    tell("drawing", len(groups), len(groups))
    if further is not None:
        markdown, latex = table_files(out)
        write_file(markdown, printable(f"<!-- {MARK} -->\n\n{further.to_markdown()}").encode(), TABLES)
        write_file(latex, printable(f"% {MARK}\n{further.to_latex()}").encode(), TABLES)
    write_file(Path(out), printable(page).encode(), PAGE)
    return found


def _compare(group: Group, tolerance: Tolerance, look: InterimLook | None) -> Comparison:
    """Return a comparison with the confidence of an interim look, else with 95 %."""
    if look is None:
        return compare(group.records[DENSE], group.candidates, tolerance=tolerance)
    found = compare(group.records[DENSE], group.candidates, tolerance=tolerance, confidence=look.own_confidence)
    return replace(found, look=look)


def table_files(out: str | Path) -> tuple[Path, Path]:
    """Return the files of the paper's tables, as Markdown and as LaTeX: the name of the page with a suffix more."""
    page = Path(out)
    return page.with_name(f"{page.name}.md"), page.with_name(f"{page.name}.tex")


def _folders(figures: str | Path | None, titles: Sequence[str]) -> list[Path]:
    """Return the folder for the figures of each part: the given one, or a subfolder for each of several parts."""
    if figures is None:
        return []
    if len(titles) == 1:
        return [Path(figures)]
    return [Path(figures, f"{place}-{slug(title)}") for place, title in enumerate(titles, start=1)]
