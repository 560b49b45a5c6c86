"""Accuracy against cost, with the front of what nothing beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from robustprune.report.drawing import Drawing, LeftOutError
from robustprune.report.figures.reading import (
    AttackKey,
    Estimate,
    Shown,
    attack_values,
    estimate,
    estimate_share,
    interval_note,
    name_attack,
    write_epsilon,
)
from robustprune.report.figures.style import INK, LINE, MUTED, new_figure, percent_axis, series_style, show_grid
from robustprune.report.tables import Table

_Point = tuple[Estimate, Estimate]


def draw_tradeoff(shown: Shown) -> Drawing:
    """Return accuracy, and robust accuracy where there is one, against multiply-accumulates saved."""
    if len(shown.groups) < 2:
        raise LeftOutError("there is nothing to compare the dense networks with")
    dense = float(np.mean([record.model.macs for record in shown.groups[shown.reference]]))
    saved = {name: [100 * (1 - r.model.macs / dense) for r in records] for name, records in shown.groups.items()}
    panels = {"accuracy": {name: [100 * r.clean.accuracy for r in found] for name, found in shown.groups.items()}}
    key = choose_attack(shown)
    if key is not None:
        label = f"accuracy under {name_attack(key[0], key[1])}, ε = {write_epsilon(key[2])}"
        panels[label] = {name: attack_values(found)[key] for name, found in shown.groups.items()}
    figure, axes = new_figure(2.9 if len(panels) == 2 else 3.4, ncols=len(panels))
    findings, rows = [], []
    n = shown.groups[shown.reference][0].n
    for axis, (title, values) in zip(axes[0], panels.items(), strict=True):
        points = {name: (estimate(saved[name]), estimate_share(each, n)) for name, each in values.items()}
        front = pareto_front({name: (x.mean, y.mean) for name, (x, y) in points.items()})
        _draw_panel(axis, shown, saved, values, points, front)
        axis.set_title(f"{title[0].upper()}{title[1:]} (%)", fontsize=7.5)
        axis.set_xlabel("multiply-accumulates saved (%)")
        findings.append(_say(title, points, front))
        rows += [[name, title, x.mean, y.mean, y.low, y.high, len(values[name])] for name, (x, y) in points.items()]
    figure.draw_without_rendering()
    for axis, values in zip(axes[0], panels.values(), strict=True):
        middles = {name: (float(np.mean(saved[name])), float(np.mean(each))) for name, each in values.items()}
        dots = [dot for name in values for dot in zip(saved[name], values[name], strict=True)]
        corners = np.array([middles[name] for name in pareto_front(middles)])
        steps = np.linspace(0, len(corners) - 1, 40)
        line = [[float(np.interp(step, range(len(corners)), each)) for each in corners.T] for step in steps]
        _label_points(axis, middles, [*dots, *((x, y) for x, y in line)])
    if shown.verdicts:
        listed = "; ".join(f"{name} {verdict}" for name, verdict in shown.verdicts.items())
        findings.append(f"Verdicts on accuracy: {listed}.")
    caption = (
        "Up and to the right is better. Small dots are networks, large marks means; bars: "
        f"{interval_note(shown.groups)}. "
        "The line joins the kinds that no other beats in both. "
        f"{shown.seeds}, {n:,} images. {shown.note}"
    ).strip()
    columns = ("network", "metric", "MACs saved (%)", "mean (%)", "low (%)", "high (%)", "networks")
    return Drawing(
        "accuracy-against-cost",
        "Accuracy against cost",
        caption,
        " ".join(findings),
        figure,
        Table("Accuracy against multiply-accumulates saved", columns, rows),
    )


def choose_attack(shown: Shown) -> AttackKey | None:
    """Return the attack that says most: the strongest at the budget that leaves the dense network nearest to half."""
    tables = {name: attack_values(records) for name, records in shown.groups.items()}
    common = [key for key in tables[shown.reference] if all(key in table for table in tables.values())]
    if not common:
        return None
    means = {key: float(np.mean(tables[shown.reference][key])) for key in common}
    clean = 100 * float(np.mean([record.clean.accuracy for record in shown.groups[shown.reference]]))
    strongest = {
        (norm, epsilon): min((key for key in common if key[1:] == (norm, epsilon)), key=lambda key: means[key])
        for _, norm, epsilon in common
    }
    return min(strongest.values(), key=lambda key: abs(means[key] - clean / 2))


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the names of points that no other is at least as good as in both coordinates and better in one."""

    def beaten(name: str) -> bool:
        x, y = points[name]
        return any(ox >= x and oy >= y and (ox, oy) != (x, y) for ox, oy in points.values())

    return sorted((name for name in points if not beaten(name)), key=lambda name: points[name])


def _draw_panel(
    axes: Axes,
    shown: Shown,
    saved: Mapping[str, Sequence[float]],
    values: Mapping[str, Sequence[float]],
    points: Mapping[str, _Point],
    front: Sequence[str],
) -> None:
    show_grid(axes, "both")
    corners = [(points[name][0].mean, points[name][1].mean) for name in front]
    axes.plot(*zip(*corners, strict=True), color=MUTED, linewidth=0.8, zorder=1.5)
    for name, (x, y) in points.items():
        style = series_style(shown.places[name])
        axes.plot(saved[name], values[name], linestyle="", marker="o", color=style["color"], markersize=2, alpha=0.55)
        low, high = y.ends
        axes.errorbar(
            x.mean,
            y.mean,
            yerr=[[max(0.0, y.mean - low)], [max(0.0, high - y.mean)]],
            color=style["color"],
            marker=style["marker"],
            markersize=6,
            linewidth=1,
            markeredgecolor=LINE,
            markeredgewidth=0.6,
        )
    ends = [end for _, y in points.values() for end in y.ends]
    percent_axis(axes, [*ends, *(value for each in values.values() for value in each)])
    most = max(max(each) for each in saved.values())
    axes.set_xlim(min(-0.08 * max(most, 1), min(min(each) for each in saved.values()) - 1), 1.3 * max(most, 1))


def _label_points(axes: Axes, points: Mapping[str, tuple[float, float]], dots: Sequence[tuple[float, float]]) -> None:
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


def _say(title: str, points: Mapping[str, _Point], front: Sequence[str]) -> str:
    values = "; ".join(f"{name} {y.mean:.1f} % at {x.mean:.1f} % saved" for name, (x, y) in points.items())
    return f"{title[0].upper()}{title[1:]}: {values}. Not beaten in both: {', '.join(front)}."
