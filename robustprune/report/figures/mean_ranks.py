"""Mean ranks as a critical-difference diagram: Demšar 2006, Figure 1."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from robustprune.comparison.ranking import Ranking, rank_blocks
from robustprune.report.figures.drawing import Drawing, NotDrawnError
from robustprune.report.figures.figure_groups import FigureGroups
from robustprune.report.figures.style import INK, MUTED, hide_axes, new_figure, shorten, styled
from robustprune.report.table import Table, Value

_BAR, _ROW = 0.32, 0.5  # inches from the axis to the first bar, and from name to name


def draw_ranks(shown: FigureGroups) -> Drawing:
    """Return the mean ranks in accuracy over the seeds of all kinds of networks."""
    values: dict[str, dict[str, float]] = {}
    for name, records in shown.groups.items():
        for record in records:
            if record.model.seed is not None:
                values.setdefault(str(record.model.seed), {})[name] = record.clean.accuracy
    ranking = rank_blocks("accuracy", "accuracy", "seeds", values)
    if ranking is None:
        raise NotDrawnError("ranks need at least three kinds of networks, and three seeds that all of them have")
    return draw_ranking(ranking)


def draw_ranking(ranking: Ranking, name: str = "mean-ranks") -> Drawing:
    """Return the mean ranks of a ranking as a critical-difference diagram."""
    names, ranks = ranking.names, ranking.ranks
    half = -(-len(names) // 2)
    bars = [clique for clique in ranks.cliques if len(clique) > 1]
    depth = 0.12 * len(bars) + _BAR
    with styled():
        figure, axes = new_figure(0.85 + 0.26 * half + 0.1 * len(bars))
        panel = axes[0, 0]
        hide_axes(panel)
        panel.set_xlim(1 - 0.35 * len(names), len(names) + 0.35 * len(names))
        panel.set_ylim(-depth - _ROW * (half - 0.4), 0.95)
        _draw_axis(panel, len(names), ranks.critical_difference, ranking.confidence)
        for place, clique in enumerate(bars):
            ends = [ranks.means[clique[0]] - 0.04, ranks.means[clique[-1]] + 0.04]
            panel.plot(ends, [-0.14 - 0.12 * place] * 2, color=INK, linewidth=3, solid_capstyle="butt")
        _draw_names(panel, names, ranks.means, depth)
    caption = (
        f"Critical-difference diagram of mean ranks in {ranking.label} over {len(ranking.blocks)} {ranking.over}; 1 is "
        "best. Bars join kinds without a significant difference: their mean ranks differ by less than the critical "
        f"difference (Nemenyi), or Friedman's test is not significant. Friedman's p = {ranks.p_value:.3g}."
    )
    alt = "; ".join(f"{each} {mean:.2f}" for each, mean in zip(names, ranks.means, strict=True))
    headings, lines = ranking.table()
    rows: list[list[Value]] = [[line[0], mean, line[2]] for line, mean in zip(lines, ranks.means, strict=True)]
    data = Table(ranking.title, [heading.removeprefix(">") for heading in headings], rows, note=ranking.notes()[0])
    return Drawing(name, "Mean ranks", caption, f"Mean ranks: {alt}.", figure, data)


def _draw_axis(panel: Axes, count: int, difference: float, confidence: float) -> None:
    panel.plot([1, count], [0, 0], color=INK, linewidth=1)
    for rank in range(1, count + 1):
        panel.plot([rank, rank], [0, 0.09], color=INK, linewidth=1)
        panel.text(rank, 0.14, str(rank), ha="center", va="bottom", fontsize=7)
    end = min(1 + difference, count + 0.3 * count)
    panel.plot([1, end], [0.58, 0.58], color=MUTED, linewidth=1.3)
    for place in (1, end):
        panel.plot([place, place], [0.53, 0.63], color=MUTED, linewidth=1)
    text = f"critical difference {difference:.2f} ({100 * confidence:g} %)"
    panel.text(1, 0.67, text, va="bottom", fontsize=7, color=MUTED)


def _draw_names(panel: Axes, names: Sequence[str], means: Sequence[float], depth: float) -> None:
    """Draw a line from each mean rank to its name, the better half at the left."""
    count, half = len(names), -(-len(names) // 2)
    for place, (name, mean) in enumerate(zip(names, means, strict=True)):
        is_left = place < half
        row = place if is_left else count - 1 - place
        height, edge = -depth - _ROW * row, 1 - 0.06 * count if is_left else count + 0.06 * count
        panel.plot([mean, mean, edge], [0, height, height], color=MUTED, linewidth=0.8)
        text = f"{shorten(name, 30)}  {mean:.2f}" if is_left else f"{mean:.2f}  {shorten(name, 30)}"
        panel.text(edge, height, f" {text} ", ha="right" if is_left else "left", va="center", fontsize=7.5)
