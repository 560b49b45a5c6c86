"""How figures look: colours, lines, letters, axes, and where names stand beside what they name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from robustprune.metrics import SeedMean

WIDTH = 7.0
"""Inches: the text width of a paper of two columns."""

INK, MUTED, LINE, PAPER = "#1b2430", "#55606e", "#dde1e4", "#fefefe"
# Okabe and Ito's, which those who see few colours tell apart; without the yellow, which paper swallows.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_TILE = 64  # pixels that a picture is wide at least
_LINES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1, 1)),
    (0, (5, 1, 1, 1)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (8, 2)),
    "-",
)

THEMED = {
    **{INK: "--ink", MUTED: "--muted", LINE: "--line", PAPER: "--paper"},
    **{colour: f"--series-{place}" for place, colour in enumerate(COLOURS, start=1)},
}
"""Colour → the CSS variable that stands in for it in a page."""

# Of the process, not of figures.
_NOT_STYLE = ("backend", "interactive", "toolbar", "webagg", "tk.", "savefig.directory", "date.epoch", "macosx.")
_RC: dict[str, Any] = {
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.family": "DejaVu Sans",  # comes with matplotlib: figures are alike on all machines
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "hatch.linewidth": 0.5,
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
}


@contextmanager
def styled(**settings: Any) -> Iterator[None]:
    """Draw in the style of the report, whatever the user's own settings of matplotlib are."""
    default = {name: value for name, value in mpl.rcParamsDefault.items() if not name.startswith(_NOT_STYLE)}
    everything: dict[Any, Any] = default | _RC | settings
    with mpl.rc_context(everything):
        yield


def series_style(place: int) -> dict[str, Any]:
    """Return colour, marker and line of the group at a place; the first is the reference."""
    colour = INK if place == 0 else COLOURS[(place - 1) % len(COLOURS)]
    return {"color": colour, "marker": _MARKERS[place % len(_MARKERS)], "linestyle": _LINES[place % len(_LINES)]}


def new_figure(height: float, gap: float = 0.06, **grid: Any) -> tuple[Figure, Any]:
    """Return a figure of the text's width, ``height`` inches high, and its axes, always as a 2-d array."""
    # Space for labels at the right of a panel is made by the layout itself.
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


def percent_axis(axes: Axes, values: Sequence[float], least: float = 2.0) -> None:
    """Set the y axis of shares in percent to what is drawn, a few points wide at least and never beyond 0 to 100."""
    low, high = min(values), max(values)
    margin = max(0.08 * (high - low), (least - (high - low)) / 2, 0.3)
    axes.set_ylim(max(low - margin, -1.0), min(high + margin, 100.8))


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, dict[str, Any]]], size: float = 7) -> None:
    """Write names at the right of a panel, each at the height where its line ends, apart from each other.

    Args:
        axes: With its limits set.
        ends: Value, name and style of each line.
        size: Of the letters, in points.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    rows = axes.get_gridspec().nrows if axes.get_subplotspec() else 1  # type: ignore[union-attr]
    height = 72 * figure.get_size_inches()[1] / rows * 0.75
    low, high = axes.transLimits.inverted().transform([(0, 0), (0, 1)])[:, 1]
    wanted = [(axes.transScale.transform((1, value))[1] - low) / (high - low) for value, _, _ in ends]
    targets = spread_out(wanted, 1.3 * size / height)
    raised = max(0.0, 0.02 - min(targets, default=0.0))  # above the labels of the x axis
    for place, (where, target) in enumerate(zip(wanted, [each + raised for each in targets], strict=True)):
        _, name, style = ends[place]
        line = axes.plot([1.0, 1.03, 1.05], [where, target, target], transform=axes.transAxes, clip_on=False)[0]
        line.set(color=style["color"], linewidth=0.6)
        axes.plot([1.065], [target], transform=axes.transAxes, clip_on=False, markersize=3.2, **style)
        axes.text(1.09, target, name, transform=axes.transAxes, va="center", fontsize=size)


def spread_out(wanted: Sequence[float], gap: float) -> list[float]:
    """Return positions near those wanted, in their order, at least ``gap`` apart and moved as little as it takes.

    Each run of positions that would touch is put around its own middle (pool adjacent violators).
    """
    order = np.argsort(wanted, kind="stable")
    runs: list[list[float]] = []  # of each run its members, less the gaps before them
    for rank, place in enumerate(order):
        runs.append([wanted[place] - rank * gap])
        while len(runs) > 1 and np.mean(runs[-2]) > np.mean(runs[-1]):
            runs[-2:] = [runs[-2] + runs[-1]]
    moved = np.concatenate([np.full(len(run), np.mean(run)) for run in runs]) if runs else np.empty(0)
    found = np.empty(len(order))
    found[order] = moved + gap * np.arange(len(order))
    return [float(value) for value in found]


def label_points(axes: Axes, points: Mapping[str, tuple[float, float]], dots: Sequence[tuple[float, float]]) -> None:
    """Write the name beside each point, on the first side where it is on top of nothing."""
    figure: Any = axes.get_figure(root=True)
    scale = 72 / figure.dpi
    taken = [_around(axes.transData.transform(point) * scale, 6, 6) for point in [*points.values(), *dots]]
    frame = axes.get_window_extent()
    limits = (frame.x0 * scale, frame.y0 * scale, frame.x1 * scale, frame.y1 * scale)
    for name, point in points.items():
        x, y = axes.transData.transform(point) * scale
        width = 3.8 * len(name)
        others = [axes.transData.transform(other) * scale for each, other in points.items() if each != name]
        near = [float(other[1]) - y for other in others if abs(float(other[0]) - x) < 20]
        best = min(_PLACES, key=lambda place: _cost(place, (x, y), width, taken, limits, near))
        dx, dy, align = best
        axes.annotate(
            name, point, (dx, dy), textcoords="offset points", ha=align, va="center", fontsize=7, color=INK,
            annotation_clip=False,
        )  # fmt: skip
        taken.append(_text_box((x, y), best, width))


_Box = tuple[float, float, float, float]
_Place = tuple[float, float, str]
_PLACES: tuple[_Place, ...] = tuple(
    (dx, dy, align)
    for dy in (0, 9, -9, 17, -17, 25, -25, 33, -33)
    for dx, align in ((7, "left"), (-7, "right"), (0, "center"))
    if not (align == "center" and dy == 0)
)


def _around(middle: Any, width: float, height: float) -> _Box:
    x, y = float(middle[0]), float(middle[1])
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _text_box(point: tuple[float, float], place: _Place, width: float) -> _Box:
    left = point[0] + place[0] - {"left": 0.0, "right": width, "center": width / 2}[place[2]]
    return left, point[1] + place[1] - 4, left + width, point[1] + place[1] + 4


def _cost(
    place: _Place,
    point: tuple[float, float],
    width: float,
    taken: Sequence[_Box],
    limits: _Box,
    near: Sequence[float],
) -> tuple[float, int]:
    """Return how bad a place for a name is; ``near`` is how much higher other points are that it could seem to name."""
    box = _text_box(point, place, width)
    hidden = sum(_overlap(box, other) for other in taken)
    outside = width * 8 - _overlap(box, limits)
    astray = 60 * any(abs(place[1] - other) < abs(place[1]) for other in near)
    return hidden + 2 * outside + 1.5 * abs(place[1]) + astray, _PLACES.index(place)


def _overlap(one: _Box, other: _Box) -> float:
    wide, high = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, wide) * max(0.0, high)


def hide_axes(axes: Axes) -> None:
    """Leave of axes what is drawn in them."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def enlarge(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an image (C, H, W) in [0, 1] as (h, w, 3) uint8, small ones with each pixel a square of several."""
    factor = max(1, -(-_TILE // min(image.shape[1:])))
    pixels = np.round(255 * image).astype(np.uint8).transpose(1, 2, 0)
    large = pixels.repeat(factor, 0).repeat(factor, 1)
    return np.broadcast_to(large, (*large.shape[:2], 3))
