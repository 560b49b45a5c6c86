"""The figures of the report as matplotlib figures, for notebooks and to draw on."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from robustprune.comparison import DENSE
from robustprune.errors import ReportError
from robustprune.records import Record
from robustprune.report.figures import draw_all
from robustprune.report.figures.drawing import Drawing, to_svg
from robustprune.report.figures.style import INK, PAPER
from robustprune.report.grouping import by_method, name_context
from robustprune.runtime.files import printable
from robustprune.runtime.html import html_paragraphs

# A light background, also in a dark notebook: the colours of the figures are made for it.
_PAPER = f"background:{PAPER};color:{INK};max-width:46em;margin:0 0 1em;padding:0.5em"


class Figures(list[Figure]):
    """The figures that :func:`show` returns; a notebook shows them with their captions.

    Attributes:
        drawings: Name, title, caption, description in words and data of each figure.
        left_out: Figure that is not drawn → the reason.
    """

    def __init__(self, drawings: Iterable[Drawing], left_out: Mapping[str, str]) -> None:
        """Keep the figures with their captions and data."""
        self.drawings = list(drawings)
        self.left_out = dict(left_out)
        super().__init__(drawing.figure for drawing in self.drawings)

    def _repr_html_(self) -> str:
        reasons = "; ".join(f"{name} ({reason})" for name, reason in self.left_out.items())
        notes = [f"Not drawn: {reasons}."] if reasons else []
        return printable("".join(map(_as_html, self.drawings))) + html_paragraphs(notes)


def _as_html(drawing: Drawing) -> str:
    """Return a figure as an image with a caption; as an image, its ids do not clash with those of other figures."""
    source = f"data:image/svg+xml;base64,{b64encode(printable(to_svg(drawing)).encode()).decode()}"
    image = f'<img src="{source}" alt="{escape(drawing.alt)}" style="max-width:100%"/>'
    words = f"<b>{escape(drawing.title)}.</b> {escape(drawing.caption)}"
    return f'<figure style="{_PAPER}">{image}<figcaption>{words}</figcaption></figure>'


def show(records: Record | Sequence[Record] | Mapping[str, Record | Sequence[Record]]) -> Figures:
    """Return the figures of the report that the records hold the data for.

    A notebook shows them where they are the last line of a cell. Each is a :class:`matplotlib.figure.Figure`:
    ``rp.show(record)[0].savefig("figure.pdf")``.

    Args:
        records: One record; several, which are grouped into the seeds of each method; or name → record, or records of
            a method's seeds. The others are compared with ``dense``, else with the first.

    Raises:
        ReportError: There are no records, they are of different images, or no figure can be drawn of them.
    """
    groups = _groups(records)
    every = [record for own in groups.values() for record in own]
    by_images = {record.samples_sha256: f"{name_context(record)} ({record.n:,} images)" for record in every}
    if len(by_images) > 1:
        raise ReportError(
            f"a figure shows networks on the same images, and these records are of several samples of images: "
            f"{'; '.join(by_images.values())}; show them one by one"
        )
    left_out: dict[str, str] = {}
    found = Figures(draw_all(groups, left_out), left_out)
    if not found:
        raise ReportError(f"nothing can be drawn: {'; '.join(f'{name}: {why}' for name, why in left_out.items())}")
    return found


def _groups(records: Record | Sequence[Record] | Mapping[str, Record | Sequence[Record]]) -> dict[str, list[Record]]:
    """Return the records of each group by its name, the dense ones first."""
    if isinstance(records, Mapping):
        named = {name: _listed(own) for name, own in records.items()}
    else:
        named = by_method(_listed(records))
    if not named or not all(named.values()):
        raise ReportError("there is no record to show; give one or more, as rp.evaluate and rp.load_record return them")
    return {name: named[name] for name in sorted(named, key=lambda name: name != DENSE)}


def _listed(records: Record | Sequence[Record]) -> list[Record]:
    found = [records] if isinstance(records, Record | str | Path) else list(records)
    for each in found:
        if not isinstance(each, Record):
            raise ReportError(f"show takes records, got {each!r}; rp.load_record reads the file of one")
    return found
