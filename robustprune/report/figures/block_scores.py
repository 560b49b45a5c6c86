"""Block scores along the network, and which blocks were removed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from robustprune.records import BlockSummary, Record
from robustprune.report.figures.drawing import Drawing, NotDrawnError
from robustprune.report.figures.figure_groups import FigureGroups
from robustprune.report.figures.style import INK, LINE, MUTED, new_figure
from robustprune.report.table import Table, Value


def draw_block_scores(shown: FigureGroups) -> Drawing:
    """Return a panel for each kind of ticket: a bar for each block of the dense network, removed blocks hatched."""
    found = {name: records for name, records in shown.groups.items() if _are_scored_alike(records)}
    if not found:
        raise NotDrawnError("no record holds scores of blocks (no layer was removed, or the records are older)")
    figure, axes = new_figure(0.3 + 1.3 * len(found), nrows=len(found), sharex=False)
    rows: list[list[Value]] = []
    said = []
    for panel, (name, records) in zip(axes[:, 0], found.items(), strict=True):
        _draw_panel(panel, name, records, shown.styles[name]["color"])
        removed = _removed(records)
        said.append(f"{name}: " + ", ".join(f"{block} ({count} of {len(records)})" for block, count in removed.items()))
        for record in records:
            rows += [
                [name, record.model.seed, block.name, block.stage + 1, block.score, "yes" if block.removed else "no"]
                for block in record.model.blocks
            ]
    axes[-1, 0].set_xlabel("block, in order of execution")
    caption = shown.caption(
        "Bars: mean importance of each block in the criterion's own unit, dots: single networks. "
        "Hatched: removed, in so many of the networks. Pale: kept, as the eligibility does not allow its removal. "
        "No bar: not removable. The lowest scores are removed first. The background changes with the stage."
    )
    alt = f"Blocks removed, and in how many networks. {'; '.join(said)}."
    columns = ("network", "seed", "block", "stage", "score", "removed")
    return Drawing(
        "block-scores", "Block scores and removed blocks", caption, alt, figure, Table("Block scores", columns, rows)
    )


def _are_scored_alike(records: Sequence[Record]) -> bool:
    names = [[block.name for block in record.model.blocks] for record in records]
    is_scored = any(block.score is not None for record in records for block in record.model.blocks)
    return is_scored and all(each == names[0] for each in names)


def _removed(records: Sequence[Record]) -> Counter[str]:
    order = [block.name for block in records[0].model.blocks]
    counts = Counter(block.name for record in records for block in record.model.blocks if block.removed)
    return Counter({name: counts[name] for name in order if counts[name]})


def _draw_panel(axes: Axes, name: str, records: Sequence[Record], colour: str) -> None:
    blocks, removed = records[0].model.blocks, _removed(records)
    scores = np.array([[block.score for block in record.model.blocks] for record in records], dtype=np.float64)
    found = np.isfinite(scores)
    means = np.where(found, scores, 0).sum(axis=0) / np.maximum(found.sum(axis=0), 1)
    for i, block in enumerate(blocks):
        fill = colour if block.eligible or block.name in removed else LINE
        look: dict[str, Any] = (
            {"facecolor": "none", "hatch": "/////"} if block.name in removed else {"facecolor": fill, "alpha": 0.85}
        )
        axes.bar(i, means[i], width=0.7, linewidth=0.5, edgecolor=fill, **look)
        axes.plot([i] * len(records), scores[:, i], linestyle="", marker="o", markersize=1.8, color=INK, alpha=0.6)
    _mark_stages(axes, blocks)
    axes.set_xticks(range(len(blocks)), _names(blocks, removed, len(records)), fontsize=5.8)
    axes.tick_params(axis="x", length=0)
    axes.axhline(0, color=MUTED, linewidth=0.5)
    axes.set_xlim(-0.6, len(blocks) - 0.4)
    axes.set_title(name, fontsize=7.5)
    axes.set_ylabel(f"{records[0].model.plan.get('criterion') or ''} score".strip())
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=False)
    axes.yaxis.get_offset_text().set_fontsize(6)
    axes.locator_params(axis="y", nbins=4)


def _mark_stages(axes: Axes, blocks: Sequence[BlockSummary]) -> None:
    for stage in sorted({block.stage for block in blocks}):
        members = [i for i, block in enumerate(blocks) if block.stage == stage]
        if stage % 2 == 0:
            axes.axvspan(members[0] - 0.5, members[-1] + 0.5, color=LINE, alpha=0.35, linewidth=0, zorder=0)
        middle, text = float(np.mean(members)), f"stage {stage + 1}"
        axes.text(
            middle, 0.99, text, transform=axes.get_xaxis_transform(), ha="center", va="top", fontsize=6, color=MUTED
        )
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.18 * (high - low))  # room for the names of the stages


def _names(blocks: Sequence[BlockSummary], removed: Counter[str], networks: int) -> list[str]:
    """Return the numbers in the names of the blocks, and below removed blocks the number of networks without them."""
    names = [".".join(re.findall(r"\d+", block.name)) or str(i) for i, block in enumerate(blocks)]
    crowded = len(blocks) > 30
    return [
        f"{name}\n{removed[block.name]}/{networks}" if block.name in removed else "" if crowded and i % 5 else name
        for i, (name, block) in enumerate(zip(names, blocks, strict=True))
    ]
