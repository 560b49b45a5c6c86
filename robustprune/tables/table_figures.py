"""Figures of a table of tickets: depth profiles with the Pareto front, criteria, and differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from robustprune.comparison.verdict import NO_SHARES
from robustprune.metrics.seeds import SeedMean
from robustprune.report.figures.drawing import Drawing
from robustprune.report.figures.style import (
    COLOURS,
    INK,
    LINE,
    MUTED,
    add_legend,
    new_figure,
    series_style,
    shorten,
    show_grid,
    styled,
)
from robustprune.report.table import Table, Value
from robustprune.tables.budget import ProfileMeans, is_on_front
from robustprune.tables.criterion_rank import CriterionRank
from robustprune.tables.ticket_comparison import REFERENCES, TicketDifference

_ROW = 0.17  # inches


def draw_profiles(table: str, found: Sequence[ProfileMeans], metrics: Sequence[str]) -> Drawing:
    """Return the means of each depth profile vs. its MACs; those on the Pareto front of metric and MACs are named."""
    methods = dict.fromkeys(each.method for each in found)
    styles = {method: series_style(place) | {"linestyle": ""} for place, method in enumerate(methods)}
    rows: list[list[Value]] = []
    with styled():
        figure, axes = new_figure(2.9 if len(metrics) > 1 else 3.4, ncols=len(metrics))
        for panel, metric in zip(axes[0], metrics, strict=True):
            show_grid(panel, "both")
            scale = _scale(metric)
            for each in found:
                place, mean = 100 * each.costs["macs"], each.values[metric]
                style = styles[each.method]
                panel.plot(
                    [place] * 2, [scale * end for end in mean.ends], color=style["color"], linewidth=1, alpha=0.5
                )
                panel.plot([place], [scale * mean.mean], markersize=4.5, **style)
                if is_on_front(each, found, [metric]):
                    at = (place, scale * mean.mean)
                    panel.annotate(each.kept, at, (0, 5), textcoords="offset points", fontsize=6, ha="center")
                rows.append([each.method, each.kept, metric, place, *(scale * end for end in (mean.mean, *mean.ends))])
            panel.set_title(f"{metric}{'' if metric in NO_SHARES else ' (%)'}")
            panel.set_xlabel("MACs (% of dense)")
        add_legend(figure, styles)
    best = ", ".join(f"{each.method} {each.kept}" for each in found if each.is_best)
    caption = (
        f"{table}: means over seeds by depth profile (blocks kept in each stage), vs. MACs. Bars: Student's 95 % "
        "interval over seeds. With names: the Pareto front of that metric and MACs."
    )
    data = Table(f"{table} by depth profile", ("network", "kept", "metric", "MACs (%)", "mean", "low", "high"), rows)
    return Drawing("profiles", "Depth profiles", caption, f"Pareto front of all: {best}.", figure, data)


def draw_criteria(table: str, ranks: Sequence[CriterionRank], figure_name: str = "percentile") -> Drawing:
    """Return one figure of all criteria, with its interval over seeds, in each metric."""
    shown: dict[str, dict[str, SeedMean]] = {}
    for each in ranks:
        shown.setdefault(each.metric, {})[each.criterion] = each.figures[figure_name]
    names = list(dict.fromkeys(each.criterion for each in ranks))
    panels = {metric: {name: (each.mean, each.ends) for name, each in own.items()} for metric, own in shown.items()}
    figure = _draw_rows(names, panels, {metric: figure_name for metric in panels}, middle=50, margins={})
    rows: list[list[Value]] = [
        [metric, name, each.mean, *each.ends] for metric, own in shown.items() for name, each in own.items()
    ]
    caption = (
        f"{table}: the share of other sets of blocks of equal size that the one picked beats, mean over seeds and "
        "sizes with Student's 95 % interval over seeds. Line: a random choice."
    )
    said = "; ".join(f"{metric}: {name} {mean:.1f}" for metric, name, mean, *_ in rows)
    data = Table(f"Criteria, {table}", ("metric", "criterion", figure_name, "low", "high"), rows)
    return Drawing("criteria", "Percentile of the ticket picked", caption, f"{said}.", figure, data)


def draw_differences(table: str, found: Sequence[TicketDifference]) -> Drawing:
    """Return differences of tickets from their reference, with their intervals and ξ, in each metric."""
    names = list(dict.fromkeys(each.candidate for each in found))
    panels: dict[str, dict[str, tuple[float, tuple[float, float]]]] = {}
    for each in found:
        panels.setdefault(each.metric, {})[each.candidate] = (each.difference, each.interval)
    units = {each.metric: f"difference ({each.unit})" if each.unit else "difference" for each in found}
    figure = _draw_rows(names, panels, units, middle=0, margins={each.metric: each.tolerance for each in found})
    rows: list[list[Value]] = [
        [each.candidate, each.metric, each.difference, *each.interval, each.tolerance, each.verdict] for each in found
    ]
    against = found[0].against
    caption = f"{table}: tickets less {against}, paired by seed and image. Bars: 95 % intervals. Band: ±ξ."
    said = "; ".join(f"{each.candidate}, {each.metric}: {each.difference:+.2f} ({each.verdict})" for each in found)
    columns = ("candidate", "metric", "difference", "low", "high", "ξ", "verdict")
    data = Table(f"{table}: layer tickets less {REFERENCES[against]}", columns, rows)
    return Drawing(
        f"tickets-against-{against}", f"Tickets less {REFERENCES[against]}", caption, f"{said}.", figure, data
    )


def _draw_rows(
    names: Sequence[str],
    panels: Mapping[str, Mapping[str, tuple[float, tuple[float, float]]]],
    labels: Mapping[str, str],
    *,
    middle: float,
    margins: Mapping[str, float],
) -> Any:
    """Return a figure with a row for each name and a panel for each metric: a mark and its interval."""
    with styled():
        figure, axes = new_figure(0.75 + _ROW * len(names), ncols=len(panels), sharey=True)
        for panel, (metric, values) in zip(axes[0], panels.items(), strict=True):
            _draw_panel(panel, names, values, middle, margins.get(metric, 0.0))
            panel.set_title(metric)
            panel.set_xlabel(labels[metric])
    return figure


def _draw_panel(
    panel: Axes,
    names: Sequence[str],
    values: Mapping[str, tuple[float, tuple[float, float]]],
    middle: float,
    margin: float,
) -> None:
    show_grid(panel, "x")
    if margin:
        panel.axvspan(middle - margin, middle + margin, color=LINE, alpha=0.6, linewidth=0)
    panel.axvline(middle, color=MUTED, linewidth=0.8)
    for name, (mean, ends) in values.items():
        row = names.index(name)
        colour = INK if ends[0] <= middle <= ends[1] else COLOURS[0] if mean > middle else COLOURS[1]
        panel.plot(ends, [row, row], color=colour, linewidth=1.2)
        panel.plot([mean], [row], marker="o", markersize=3.5, color=colour)
    panel.set_yticks(range(len(names)), [shorten(name, 36) for name in names])
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.tick_params(axis="y", length=0)


def _scale(metric: str) -> float:
    return 1.0 if metric in NO_SHARES else 100.0
