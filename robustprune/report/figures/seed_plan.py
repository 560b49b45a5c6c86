"""The power of each verdict by the number of seeds."""

from __future__ import annotations

from collections.abc import Sequence

from robustprune.comparison.power import Chance, SeedPlan
from robustprune.comparison.verdict import write_margin
from robustprune.report.figures.drawing import Drawing
from robustprune.report.figures.style import COLOURS, MUTED, add_legend, new_figure, series_style, show_grid, styled
from robustprune.report.table import Table, Value

_MOST_LINES = len(COLOURS)
_COLUMNS = ("verdict", "images", "seeds", "chance (%)", "chance at the upper bound (%)", "images needed")


def draw_seed_plan(plan: SeedPlan, name: str = "seeds") -> Drawing:
    """Return the probability of each true verdict vs. the number of seeds, a line for each number of images."""
    with styled():
        figure, axes = new_figure(2.4, ncols=len(plan.verdicts))
        styles = {f"{n:,} images": series_style(place + 1) for place, n in enumerate(plan.images[:_MOST_LINES])}
        for panel, verdict in zip(axes[0], plan.verdicts, strict=True):
            show_grid(panel, "both")
            panel.axhline(100 * plan.power, color=MUTED, linewidth=0.8, linestyle=":")
            for n, style in zip(plan.images, styles.values(), strict=False):
                found = [each for each in plan.chances if (each.verdict, each.n_images) == (verdict, n)]
                counts = [each.n_seeds for each in found]
                expected, least = ([100 * value for value in values] for values in _both(found))
                panel.plot(counts, expected, **style, markersize=3.5)
                panel.fill_between(counts, least, expected, color=style["color"], alpha=0.13, linewidth=0)
            panel.set_xscale("log")
            panel.set_xticks(counts, list(map(str, counts)), minor=False)
            panel.minorticks_off()
            panel.set_ylim(-2, 102)
            panel.set_title(f"{verdict[0].upper()}{verdict[1:]} (%)")
            panel.set_xlabel("seeds")
        add_legend(figure, styles)
    margin, assumed = write_margin(plan.tolerance, plan.unit), f"{plan.difference:g} {plan.unit}".rstrip()
    caption = (
        f"{plan.name}: probability of each verdict at a true difference of {assumed}, with ξ = {margin} and "
        f"{100 * plan.confidence:g} % confidence. Dotted: {100 * plan.power:g} %."
    )
    if plan.spreads.n_seeds:
        caption += " Bands reach down to the chance where seeds vary as much as the pilot allows (80 % bound)."
    said = [f"{each.verdict} on {each.n_images:,} images: {_write(each.n_seeds)} seeds" for each in plan.needed]
    alt = f"Seeds for a chance of {100 * plan.power:g} %: {'; '.join(said)}."
    rows: list[list[Value]] = [
        [each.verdict, each.n_images, each.n_seeds, 100 * each.chance, 100 * each.chance_at_least, each.images_needed]
        for each in plan.chances
    ]
    data = Table(f"Chance of a verdict: {plan.name}", _COLUMNS, rows)
    return Drawing(name, "How many seeds a verdict takes", caption, alt, figure, data)


def _both(found: Sequence[Chance]) -> tuple[list[float], list[float]]:
    return [each.chance for each in found], [each.chance_at_least for each in found]


def _write(count: int | None) -> str:
    return "no number of" if count is None else str(count)
