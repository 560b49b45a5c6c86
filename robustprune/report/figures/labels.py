"""Names beside what they name: at the ends of lines, and around points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from robustprune.report.figures.style import INK


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
