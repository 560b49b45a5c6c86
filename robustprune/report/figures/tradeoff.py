"""Accuracy against cost, with the front of what nothing beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes

from robustprune.comparison.metric import write_epsilon
from robustprune.report.drawing import Drawing, LeftOutError
from robustprune.report.figures.labels import label_points
from robustprune.report.figures.reading import (
    AttackKey,
    Estimate,
    Shown,
    attack_values,
    estimate,
    estimate_share,
    interval_note,
    name_attack,
)
from robustprune.report.figures.style import LINE, MUTED, new_figure, percent_axis, series_style, show_grid
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
        _label_panel(axis, saved, values)
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


def _label_panel(axes: Axes, saved: Mapping[str, Sequence[float]], values: Mapping[str, Sequence[float]]) -> None:
    means = {name: (float(np.mean(saved[name])), float(np.mean(each))) for name, each in values.items()}
    dots = [dot for name in values for dot in zip(saved[name], values[name], strict=True)]
    corners = [means[name] for name in pareto_front(means)]
    line = [
        (x + share * (to_x - x), y + share * (to_y - y))
        for (x, y), (to_x, to_y) in pairwise(corners)
        for share in np.linspace(0, 1, 20)
    ]
    label_points(axes, means, [*dots, *line])


def _say(title: str, points: Mapping[str, _Point], front: Sequence[str]) -> str:
    values = "; ".join(f"{name} {y.mean:.1f} % at {x.mean:.1f} % saved" for name, (x, y) in points.items())
    return f"{title[0].upper()}{title[1:]}: {values}. Not beaten in both: {', '.join(front)}."
