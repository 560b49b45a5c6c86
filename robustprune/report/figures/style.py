"""The style of the figures: colours, lines, fonts, axes, legends, and shapes that several figures share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from robustprune.metrics import SeedMean

WIDTH = 7.0
"""Inches: the text width of a paper of two columns."""

INK, MUTED, LINE, PAPER = "#1b2430", "#55606e", "#dde1e4", "#fefefe"
# Okabe and Ito's palette, safe for colour-blind readers; without yellow, which is too pale on paper.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_TILE = 64  # least width of a picture in pixels
_LINES = ("-", "--", ":", "-.")

THEMED = {
    **{INK: "--ink", MUTED: "--muted", LINE: "--line", PAPER: "--paper"},
    **{colour: f"--series-{place}" for place, colour in enumerate(COLOURS, start=1)},
}
"""Colour → the CSS variable that replaces it in a page."""

_RC: dict[str, Any] = {
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.family": "DejaVu Sans",  # comes with matplotlib, so figures are the same on all machines
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlesize": 8,
    **dict.fromkeys(("font.size", "axes.labelsize"), 7.5),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), 7),
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), MUTED),
    **dict.fromkeys(("xtick.major.size", "ytick.major.size"), 2.5),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}


@contextmanager
def styled(**settings: Any) -> Iterator[None]:
    """Draw in the style of the report, whatever the user's own settings of matplotlib are."""
    with matplotlib.style.context(["default", _RC | settings]):
        yield


def series_style(place: int) -> dict[str, Any]:
    """Return colour, marker and line of the group at a place; the first is the reference."""
    colour = INK if place == 0 else COLOURS[(place - 1) % len(COLOURS)]
    return {"color": colour, "marker": _MARKERS[place % len(_MARKERS)], "linestyle": _LINES[place % len(_LINES)]}


def new_figure(height: float, gap: float = 0.06, **grid: Any) -> tuple[Figure, Any]:
    """Return a figure of the text's width, ``height`` inches high, and its axes, always as a 2-d array."""
    layout = ConstrainedLayoutEngine(w_pad=gap, h_pad=gap, wspace=0.7 * gap, hspace=0.7 * gap)
    figure = Figure(figsize=(WIDTH, height), layout=layout)
    return figure, figure.subplots(squeeze=False, **grid)


def show_grid(axes: Axes, which: str = "y") -> None:
    """Draw faint lines to read values by."""
    axes.grid(visible=True, axis=which)  # type: ignore[arg-type]
    axes.tick_params(length=0 if which == "both" else 2.5)


def draw_curve(axes: Axes, places: Any, means: Sequence[SeedMean], style: dict[str, Any], *, band: bool = True) -> None:
    """Draw means at some places as a line, and a band of their intervals behind it."""
    axes.plot(places, [each.mean for each in means], **style)
    if band:
        low, high = zip(*(each.ends for each in means), strict=True)
        axes.fill_between(places, low, high, color=style["color"], alpha=0.13, linewidth=0)


def percent_axis(axes: Axes, values: Sequence[float]) -> None:
    """Fit the y axis to shares in percent: at least a few points wide, and never beyond 0 to 100."""
    low, high = min(values), max(values)
    margin = max(0.08 * (high - low), (2.0 - (high - low)) / 2, 0.3)
    axes.set_ylim(max(low - margin, -1.0), min(high + margin, 100.8))


def add_legend(figure: Figure, styles: Mapping[str, Mapping[str, Any]]) -> None:
    """Add a legend above all panels: the colour, marker and line of each name."""
    handles = [Line2D([], [], **style, markersize=4.5, label=name) for name, style in styles.items()]
    columns = max(1, 120 // (max(map(len, styles)) + 9))  # letters that fit in a line
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, frameon=False, fontsize=7, handlelength=2.6)


def draw_means(
    axes: Axes,
    rows: Sequence[str],
    values: Mapping[str, Sequence[float]],
    means: Mapping[str, SeedMean],
    styles: Mapping[str, Mapping[str, Any]],
    texts: Mapping[str, str],
) -> None:
    """Draw a row for each kind of network: a dot for each network, the mean with its interval, a text at the right."""
    show_grid(axes, "x")
    for name, each in values.items():
        row, style = rows.index(name), styles[name]
        axes.plot(each, [row] * len(each), linestyle="", marker="o", markersize=2.2, color=style["color"], alpha=0.5)
        axes.plot(means[name].ends, [row, row], color=style["color"], linewidth=1)
        axes.plot([means[name].mean], [row], markersize=5.5, **style)
    for name, text in texts.items():
        place = (1, rows.index(name))
        axes.annotate(text, place, (4, 0), ("axes fraction", "data"), "offset points", va="center", fontsize=7)
    axes.set_xlim(0, 1.05 * max(max(means[name].ends[1], *each) for name, each in values.items()) or 1)
    axes.set_yticks(range(len(rows)), [shorten(name, 36) for name in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def shorten(text: str, most: int) -> str:
    """Return a text of at most so many letters, with the middle of a longer text left out."""
    return text if len(text) <= most else f"{text[: most - most // 4 - 1]}…{text[len(text) - most // 4 :]}"


def hide_axes(axes: Axes) -> None:
    """Remove ticks and spines of axes."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def show_image(axes: Axes, image: NDArray[Any]) -> None:
    """Draw an image (C, H, W) in [0, 1]; a small image is enlarged by whole pixels."""
    factor = max(1, -(-_TILE // min(image.shape[1:])))
    pixels = np.round(255 * image).astype(np.uint8).transpose(1, 2, 0)
    large = pixels.repeat(factor, 0).repeat(factor, 1)
    axes.imshow(np.broadcast_to(large, (*large.shape[:2], 3)), interpolation="none")
