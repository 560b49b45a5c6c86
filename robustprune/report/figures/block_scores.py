"""What blocks were worth, along the network, and which of them went."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation

from robustprune.records import BlockSummary, Record
from robustprune.report.figures.drawing import Drawing, LeftOutError
from robustprune.report.figures.shown import Shown
from robustprune.report.figures.style import INK, LINE, MUTED, new_figure, series_style
from robustprune.report.table import Table, Value

_PANELS = 5


def draw_block_scores(shown: Shown) -> Drawing:
    """Return a panel for each kind of ticket: a bar for each block of the dense network, those that went struck out."""
    scored = {name: records for name, records in shown.groups.items() if _alike(records)}
    found = dict(list(scored.items())[:_PANELS])
    if not found:
        raise LeftOutError("no record holds scores of blocks (no layer was removed, or the records are older)")
    figure, axes = new_figure(0.3 + 1.3 * len(found), nrows=len(found), sharex=False)
    rows: list[list[Value]] = []
    said = []
    for place, (panel, (name, records)) in enumerate(zip(axes[:, 0], found.items(), strict=True)):
        _draw_panel(panel, name, records, shown.places[name], last=place == len(found) - 1)
        removed = _removed(records)
        said.append(f"{name}: " + ", ".join(f"{block} ({count} of {len(records)})" for block, count in removed.items()))
        for record in records:
            rows += [
                [name, record.model.seed, block.name, block.stage + 1, block.score, "yes" if block.removed else "no"]
                for block in record.model.blocks
            ]
    left = len(scored) - len(found)
    caption = (
        "Bars: mean importance of each block in the criterion's own unit, dots: single networks; the lowest went. "
        "Struck out and hatched: removed, with the share of networks that lost it. Pale: not to be removed. The "
        "background changes with the stage."
        + (f" {left} more kinds are not drawn." if left else "")
        + (f" {shown.note}" if shown.note else "")
    )
    alt = f"Blocks removed, and in how many networks. {'; '.join(said)}."
    columns = ("network", "seed", "block", "stage", "score", "removed")
    return Drawing("block-scores", "Which blocks went", caption, alt, figure, Table("Block scores", columns, rows))


def _alike(records: Sequence[Record]) -> bool:
    names = [[block.name for block in record.model.blocks] for record in records]
    return bool(names[0]) and all(each == names[0] for each in names)


def _removed(records: Sequence[Record]) -> Counter[str]:
    order = [block.name for block in records[0].model.blocks]
    counts = Counter(block.name for record in records for block in record.model.blocks if block.removed)
    return Counter({name: counts[name] for name in order if counts[name]})


def _draw_panel(axes: Axes, name: str, records: Sequence[Record], place: int, *, last: bool) -> None:
    blocks = records[0].model.blocks
    style = series_style(place)
    removed = _removed(records)
    scores = [[_score(record.model.blocks[i]) for record in records] for i in range(len(blocks))]
    means = [float(np.nanmean(each)) if np.isfinite(each).any() else np.nan for each in scores]
    colours = [style["color"] if block.eligible else LINE for block in blocks]
    bars = axes.bar(range(len(blocks)), np.nan_to_num(means), width=0.7, color=colours, alpha=0.85, linewidth=0.5)
    for i, (bar, block) in enumerate(zip(bars, blocks, strict=True)):
        if block.name in removed:
            bar.set(facecolor="none", edgecolor=style["color"], hatch="/////", alpha=1)
        axes.plot([i] * len(records), scores[i], linestyle="", marker="o", markersize=1.8, color=INK, alpha=0.6)
    _mark_stages(axes, blocks)
    _name_blocks(axes, blocks, removed, len(records))
    axes.set_xlabel("block, in order of execution" if last else "", labelpad=20)
    axes.axhline(0, color=MUTED, linewidth=0.5)
    axes.set_xlim(-0.6, len(blocks) - 0.4)
    axes.set_title(name, fontsize=7.5)
    axes.set_ylabel(f"{records[0].model.plan.get('criterion') or ''} score".strip())
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=False)
    axes.yaxis.get_offset_text().set_fontsize(6)
    axes.locator_params(axis="y", nbins=4)


def _score(block: BlockSummary) -> float:
    return np.nan if block.score is None else block.score


def _mark_stages(axes: Axes, blocks: Sequence[BlockSummary]) -> None:
    for stage in sorted({block.stage for block in blocks}):
        members = [i for i, block in enumerate(blocks) if block.stage == stage]
        if stage % 2 == 0:
            axes.axvspan(members[0] - 0.5, members[-1] + 0.5, color=LINE, alpha=0.35, linewidth=0, zorder=0)
        axes.annotate(
            f"stage {stage + 1}", (float(np.mean(members)), 1), xycoords=("data", "axes fraction"), xytext=(0, -1),
            textcoords="offset points", ha="center", va="top", fontsize=6, color=MUTED,
        )  # fmt: skip
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.18 * (high - low))  # room for the names of the stages


def _name_blocks(axes: Axes, blocks: Sequence[BlockSummary], removed: Counter[str], seeds: int) -> None:
    """Write the numbers in the names of blocks below them; strike out those that went, and say in how many networks."""
    below = [
        axes.get_xaxis_transform() + ScaledTranslation(0, -points / 72, axes.figure.dpi_scale_trans)
        for points in (7, 14.5)
    ]
    axes.set_xticks([])
    crowded = len(blocks) > 30
    for i, block in enumerate(blocks):
        name = ".".join(re.findall(r"\d+", block.name)) or str(i)
        if not crowded or block.name in removed or i % 5 == 0:
            colour = MUTED if block.name in removed else INK
            axes.text(i, 0, name, transform=below[0], ha="center", va="center", fontsize=5.8, color=colour)
        if block.name in removed:
            axes.plot([i - 0.3, i + 0.3], [0, 0], transform=below[0], clip_on=False, color=INK, linewidth=0.9)
            if seeds > 1:
                count = f"{removed[block.name]}/{seeds}"
                axes.text(i, 0, count, transform=below[1], ha="center", va="center", fontsize=5.8)
