"""Accuracy vs. cost with the Pareto front, and every cost relative to the dense networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from robustprune.attacks.norms import write_epsilon
from robustprune.metrics import SeedMean, mean_over_seeds
from robustprune.records import Record
from robustprune.report.figures.drawing import Drawing, NotDrawnError
from robustprune.report.figures.figure_groups import (
    INTERVAL,
    AttackKey,
    FigureGroups,
    attack_values,
    name_attack,
    share_over_seeds,
)
from robustprune.report.figures.style import INK, LINE, MUTED, add_legend, new_figure, percent_axis, show_grid
from robustprune.report.table import Table, Value

_Point = tuple[SeedMean, SeedMean]
# Cost → how to read it from a record, and where it is measured the key of its metric.
_COSTS: dict[str, tuple[Callable[[Record], float | None], str | None]] = {
    "MACs": (lambda record: record.model.macs, None),
    "parameters": (lambda record: record.model.parameters, None),
    "memory in training": (lambda record: record.model.training_memory, None),
    "latency, 1 image": (lambda record: (record.model.latency_ms or {}).get("median"), "latency"),
    "latency, 128 images": (lambda record: (record.model.batch_latency_ms or {}).get("median"), "latency"),
    "training time": (lambda record: record.model.training.get("seconds"), "training_seconds"),
    "energy": (lambda record: record.model.training.get("energy_kwh"), "energy_kwh"),
}


def draw_tradeoff(shown: FigureGroups) -> Drawing:
    """Return accuracy, and robust accuracy where there is one, vs. the MACs saved."""
    if len(shown.groups) < 2:
        raise NotDrawnError("there are no networks to compare with the dense ones")
    dense = mean_over_seeds([record.model.macs for record in shown.groups[shown.reference]]).mean
    saved = {name: [100 * (1 - r.model.macs / dense) for r in records] for name, records in shown.groups.items()}
    panels = {"accuracy": {name: [100 * r.clean.accuracy for r in found] for name, found in shown.groups.items()}}
    key = choose_attack(shown)
    if key is not None:
        label = f"robust accuracy: {name_attack(key[0], key[1])}, ε = {write_epsilon(key[2], key[1])}"
        panels[label] = {name: attack_values(found)[key] for name, found in shown.groups.items()}
    figure, axes = new_figure(2.9 if len(panels) == 2 else 3.4, ncols=len(panels))
    findings, rows = [], []
    for axis, (title, values) in zip(axes[0], panels.items(), strict=True):
        points = {
            name: (mean_over_seeds(saved[name]), share_over_seeds(each, shown.images)) for name, each in values.items()
        }
        front = pareto_front({name: (x.mean, y.mean) for name, (x, y) in points.items()})
        _draw_panel(axis, shown, saved, values, points, front)
        axis.set_title(f"{title[0].upper()}{title[1:]} (%)", fontsize=7.5)
        axis.set_xlabel("MACs saved (%)")
        findings.append(_say(title, points, front))
        rows += [[name, title, x.mean, y.mean, y.low, y.high, len(values[name])] for name, (x, y) in points.items()]
    add_legend(figure, shown.styles)
    caption = shown.caption(
        f"Up and to the right is better. Small dots: single networks; large marks: means; bars: {INTERVAL}. Line: "
        f"Pareto front. {shown.seeds}, {shown.images:,} images."
    )
    columns = ("network", "metric", "MACs saved (%)", "mean (%)", "low (%)", "high (%)", "networks")
    data = Table("Accuracy vs. MACs saved", columns, rows)
    return Drawing("accuracy-against-cost", "Accuracy vs. MACs", caption, " ".join(findings), figure, data)


def draw_costs(shown: FigureGroups) -> Drawing:
    """Return every cost as a percentage of the dense networks'."""
    others = [name for name in shown.groups if name != shown.reference]
    if not others:
        raise NotDrawnError("there are no networks to compare with the dense ones")
    lines: dict[str, dict[str, float]] = {}
    for title, (read, cost) in _COSTS.items():
        values = shown.collect(read)
        # Medians: a time that was measured while the machine was busy is an outlier.
        dense = float(np.median(values.get(shown.reference, [0.0])))
        alike = [name for name in others if name in values and shown.is_alike(cost, name)]
        if dense > 0 and alike:
            lines[title] = {name: 100 * float(np.median(values[name])) / dense for name in alike}
    figure, axes = new_figure(0.6 + (0.16 + 0.11 * len(others)) * len(lines), ncols=1)
    panel = axes[0, 0]
    show_grid(panel, "x")
    panel.axvline(100, color=INK, linewidth=1)
    for row, found in enumerate(lines.values()):
        for place, name in enumerate(others):
            if name not in found:
                continue
            style, height = shown.styles[name], row + 0.7 * ((place + 0.5) / len(others) - 0.5)
            panel.plot([100, found[name]], [height, height], color=style["color"], linewidth=0.8, alpha=0.6)
            panel.plot([found[name]], [height], **style, markersize=4.5)
    panel.set_yticks(range(len(lines)), list(lines))
    panel.set_ylim(len(lines) - 0.45, -0.55)
    panel.tick_params(axis="y", length=0)
    panel.set_xlabel(f"% of {shown.reference} = 100, less is better")
    panel.set_xlim(left=max(0.0, min(100, *(each for found in lines.values() for each in found.values())) - 12))
    add_legend(figure, {name: shown.styles[name] for name in others})
    caption = shown.caption(
        f"Costs relative to {shown.reference}, medians over networks. Counted: MACs, parameters, memory (parameters, "
        "buffers and activations of a training step of 128 images). Latency, time and energy are measured, and shown "
        "only where all networks were measured under the same settings. Other load on the machine distorts them."
    )
    said = [
        f"{title}: " + "; ".join(f"{name} {each:.0f} %" for name, each in found.items())
        for title, found in lines.items()
    ]
    rows: list[list[Value]] = [[name, title, each] for title, found in lines.items() for name, each in found.items()]
    data = Table(f"Costs in percent of {shown.reference}", ("network", "cost", "median (%)"), rows)
    return Drawing("costs", "Cost relative to dense", caption, f"In percent of dense. {'. '.join(said)}.", figure, data)


def choose_attack(shown: FigureGroups) -> AttackKey | None:
    """Return the strongest attack at the budget that leaves the dense network closest to half its clean accuracy."""
    tables = {name: attack_values(records) for name, records in shown.groups.items()}
    common = [key for key in tables[shown.reference] if all(key in table for table in tables.values())]
    if not common:
        return None
    means = {key: mean_over_seeds(tables[shown.reference][key]).mean for key in common}
    clean = 100 * mean_over_seeds([record.clean.accuracy for record in shown.groups[shown.reference]]).mean
    strongest = {
        (norm, epsilon): min((key for key in common if key[1:] == (norm, epsilon)), key=lambda key: means[key])
        for _, norm, epsilon in common
    }
    return min(strongest.values(), key=lambda key: abs(means[key] - clean / 2))


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the names of the points that no other point dominates: as high in both coordinates, higher in one."""

    def beaten(name: str) -> bool:
        x, y = points[name]
        return any(ox >= x and oy >= y and (ox, oy) != (x, y) for ox, oy in points.values())

    return sorted((name for name in points if not beaten(name)), key=lambda name: points[name])


def _draw_panel(
    axes: Axes,
    shown: FigureGroups,
    saved: Mapping[str, Sequence[float]],
    values: Mapping[str, Sequence[float]],
    points: Mapping[str, _Point],
    front: Sequence[str],
) -> None:
    show_grid(axes, "both")
    corners = [(points[name][0].mean, points[name][1].mean) for name in front]
    axes.plot(*zip(*corners, strict=True), color=MUTED, linewidth=0.8, zorder=1.5)
    for name, (x, y) in points.items():
        style = shown.styles[name]
        axes.plot(saved[name], values[name], linestyle="", marker="o", color=style["color"], markersize=2, alpha=0.55)
        axes.plot([x.mean, x.mean], y.ends, color=style["color"], linewidth=1)
        axes.plot([x.mean], [y.mean], markersize=6, markeredgecolor=LINE, markeredgewidth=0.6, **style)
    ends = [end for _, y in points.values() for end in y.ends]
    percent_axis(axes, [*ends, *(value for each in values.values() for value in each)])


def _say(title: str, points: Mapping[str, _Point], front: Sequence[str]) -> str:
    values = "; ".join(f"{name} {y.mean:.1f} % at {x.mean:.1f} % saved" for name, (x, y) in points.items())
    return f"{title[0].upper()}{title[1:]}: {values}. Pareto front: {', '.join(front)}."
