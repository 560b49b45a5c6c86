"""A figure with its title, caption and data, and how it is written: as SVG within a page, and as files."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from matplotlib.figure import Figure

from robustprune.errors import ReportError
from robustprune.report.figures.style import THEMED, styled
from robustprune.report.table import Table
from robustprune.runtime.file_kinds import MARK, PICTURE, FileKind
from robustprune.runtime.files import write_atomically

# Without dates and versions, equal figures are equal bytes.
_METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "pdf": {"CreationDate": None, "Creator": MARK, "Producer": None},
    "png": {"Software": MARK},
}
_DPI = 300


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure.

    Attributes:
        name: Stem of its files: lower-case words joined by hyphens.
        title: Title, in a few words.
        caption: How to read it: what is drawn, from how many images and seeds, the meaning of bands and bars.
        alt: Its findings in words and numbers, for readers who do not see it.
        figure: The matplotlib figure.
        data: The numbers that are drawn.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure = field(repr=False)
    data: Table | None = field(default=None, repr=False)


class NotDrawnError(Exception):
    """The records do not hold the data of a figure; the message names what is missing."""


def slug(text: str) -> str:
    """Return a text as part of a file name: letters and digits, with hyphens between words."""
    return "-".join(re.findall(r"[a-z0-9]+", text, re.IGNORECASE | re.ASCII))[:60]


def to_svg(drawing: Drawing, *, prefix: str | None = None) -> str:
    """Return a figure as one ``<svg>`` element that can stand in a page beside others.

    Letters are drawn as shapes, so that no font is needed. Nothing is fetched. Colours are those of the CSS variables
    ``--ink``, ``--muted``, ``--line``, ``--paper`` and ``--series-1`` to ``--series-6`` where the page has them.
    ``prefix`` begins all ids in it, by default the figure's name.
    """
    own = prefix or drawing.name
    svg = _plain_svg(drawing, own)
    for colour, name in THEMED.items():
        svg = re.sub(rf"(:\s*){colour}\b", rf"\1var({name}, {colour})", svg, flags=re.IGNORECASE)
    labels = f'role="img" aria-labelledby="{own}-title {own}-desc"'
    words = f'<title id="{own}-title">{escape(drawing.title)}</title><desc id="{own}-desc">{escape(drawing.alt)}</desc>'
    return re.sub(r"<svg ([^>]*)>", lambda match: f"<svg {labels} {match[1]}>\n {words}", svg, count=1)


def save_figures(drawings: Iterable[Drawing], folder: str | Path) -> list[Path]:
    """Write each figure as PDF (fonts embedded), SVG and PNG (300 dpi); return the files."""
    written = []
    for drawing in drawings:
        contents = {
            "pdf": _render(drawing, "pdf"),
            "svg": f"{_plain_svg(drawing, drawing.name)}<!-- {MARK} -->\n".encode(),
            "png": _render(drawing, "png"),
        }
        for kind, content in contents.items():
            written.append(Path(folder) / f"{drawing.name}.{kind}")
            write_file(written[-1], content, PICTURE)
    return written


def write_file(path: Path, content: bytes, kind: FileKind) -> None:
    """Write a file of a report."""
    try:
        write_atomically(path, content, kind)
    except OSError as error:
        raise ReportError(f"the report cannot be written to {path}: {error.strerror}") from error


def _render(drawing: Drawing, kind: str) -> bytes:
    stream = io.BytesIO()
    with styled(**{"svg.hashsalt": drawing.name}), warnings.catch_warnings():
        # A letter that the font does not have is a box; the words beside the figure have it.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        drawing.figure.savefig(stream, format=kind, dpi=_DPI, metadata=_METADATA[kind], transparent=kind == "svg")
    return stream.getvalue()


def _plain_svg(drawing: Drawing, prefix: str) -> str:
    text = _render(drawing, "svg").decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    used = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    # Equal pictures have one name, which nothing refers to.
    text = re.sub(r'\s\bid="([^"]+)"', lambda match: f' id="{prefix}-{match[1]}"' if match[1] in used else "", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', text)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text)
