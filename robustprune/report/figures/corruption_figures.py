"""Accuracy under each corruption and severity, as differences to the dense networks, and examples of corruptions."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from robustprune.corruptions import EXTRAS, HEADLINE, SEVERITIES, corrupt
from robustprune.records import Record
from robustprune.report.figures.drawing import Drawing, NotDrawnError
from robustprune.report.figures.figure_groups import FigureGroups
from robustprune.report.figures.style import MUTED, hide_axes, new_figure, show_image
from robustprune.report.table import Table, Value

_PANELS = 4
_Floats = NDArray[np.float64]


def draw_corruptions(shown: FigureGroups) -> Drawing:
    """Return a heat map of the accuracy of the dense networks, and one of the difference for each other kind."""
    found = dict(list(shown.having(lambda record: record.corruptions).items())[: _PANELS + 1])
    if shown.reference not in found:
        raise NotDrawnError("the dense networks were not evaluated under corruptions")
    names = _common(found)
    if not names:
        raise NotDrawnError("no corruption was evaluated for all networks")
    tables = {name: _accuracies(records, names) for name, records in found.items()}
    dense = tables.pop(shown.reference)
    differences = {name: table - dense for name, table in tables.items()}
    figure, axes = new_figure(0.9 + 0.165 * (len(names) + 1), ncols=len(found))
    _draw_map(axes[0, 0], dense, f"{shown.reference} (%)", limits=(0, 100), colours="Greys_r", form=".0f")
    axes[0, 0].set_yticks(np.arange(len(names) + 1) + 0.5, [*(name.replace("_", " ") for name in names), "mean"])
    reach = max(5.0, float(np.quantile(np.abs(list(differences.values())), 0.98)) if differences else 5.0)
    for panel, (name, table) in zip(axes[0, 1:], differences.items(), strict=True):
        _draw_map(panel, table, f"{name} (pp)", limits=(-reach, reach), colours="RdBu", form="+z.1f")
    left = len(shown.groups) - len(found)
    n = next(record.corruptions.n for record in found[shown.reference] if record.corruptions)
    counted = "the corruptions" if len(_counted(names)) == len(names) else "the 15 corruptions of the benchmark"
    caption = shown.caption(
        f"Left: accuracy of {shown.reference} in percent. Beside it: other networks less {shown.reference}, in "
        f"percentage points, blue where they are better, red where they are worse. Means over networks; last row: mean "
        f"over {counted}. "
        f"{shown.seeds}, {n:,} images per cell." + (f" {left} more kinds are not drawn." if left else "")
    )
    alt = " ".join(_say(name, table, names) for name, table in differences.items()) or "Accuracy of one kind only."
    rows: list[list[Value]] = [
        [name, corruption, severity, *(float(each[row, column]) for each in (dense, dense + table, table))]
        for name, table in differences.items()
        for row, corruption in enumerate(names)
        for column, severity in enumerate(SEVERITIES)
    ]
    columns = ("network", "corruption", "severity", f"{shown.reference} (%)", "accuracy (%)", "difference (pp)")
    data = Table("Accuracy vs. severity of corruptions", columns, rows)
    return Drawing("corruptions", "Accuracy vs. severity of corruptions", caption, alt, figure, data)


def _common(found: dict[str, Sequence[Record]]) -> list[str]:
    tables = [r.corruptions.table for records in found.values() for r in records if r.corruptions is not None]
    known = [*HEADLINE, *EXTRAS]
    names = [name for name in tables[0] if all(len(table.get(name, ())) == len(SEVERITIES) for table in tables)]
    return sorted(names, key=lambda name: known.index(name) if name in known else len(known))


def _accuracies(records: Sequence[Record], names: Sequence[str]) -> _Floats:
    """Return mean accuracy in percent, (corruptions + 1, severities), the mean over corruptions last."""
    found = [record.corruptions for record in records if record.corruptions]
    mean = 100 * np.mean([[each.table[name] for name in names] for each in found], axis=0)
    # A corruption that changes no image is in no mean, unless all are such.
    counted = set.intersection(*(set(each.counted(names)) for each in found))
    counts = np.array([[(name, severity) in counted for severity in SEVERITIES] for name in names], dtype=np.float64)
    weights = counts[_counted(names)]
    weights[:, weights.sum(axis=0) == 0] = 1
    return np.vstack([mean, np.average(mean[_counted(names)], axis=0, weights=weights)])


def _counted(names: Sequence[str]) -> list[int]:
    """Return the indices of the corruptions in the mean: the 15 of the benchmark where all are there, else all."""
    wanted = HEADLINE if set(HEADLINE) <= set(names) else names
    return [names.index(name) for name in wanted]


def _draw_map(axes: Axes, table: _Floats, title: str, *, limits: tuple[float, float], colours: str, form: str) -> None:
    mesh = axes.pcolormesh(table, cmap=colours, vmin=limits[0], vmax=limits[1], edgecolors="white", linewidth=0.6)
    axes.invert_yaxis()
    axes.set_title(textwrap.fill(title, 22), fontsize=6.8)
    axes.set_xticks(np.arange(len(SEVERITIES)) + 0.5, [str(severity) for severity in SEVERITIES])
    axes.set_yticks([])
    axes.set_xlabel("severity")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.axhline(len(table) - 1, color="white", linewidth=3)
    colour = mesh.to_rgba(table)  # (corruptions + 1, severities, 4)
    is_dark = colour[..., :3] @ (0.299, 0.587, 0.114) < 0.55
    for (row, column), value in np.ndenumerate(table):
        text = f"{value:{form}}".replace("-", "−")
        ink = "white" if is_dark[row, column] else "black"
        axes.text(column + 0.5, row + 0.53, text, ha="center", va="center", fontsize=5.2, color=ink)


def _say(name: str, table: _Floats, names: Sequence[str]) -> str:
    cells = table[:-1]
    best, worst = (divmod(int(place), cells.shape[1]) for place in (cells.argmax(), cells.argmin()))
    return (
        f"{name}: {table[-1].mean():+.1f} points on average, from {cells[worst]:+.1f} ({names[worst[0]]}, severity "
        f"{worst[1] + 1}) to {cells[best]:+.1f} ({names[best[0]]}, severity {best[1] + 1})."
    ).replace("-", "−")


def draw_corrupted(shown: FigureGroups) -> Drawing:
    """Return the first evaluated image under each corruption at each severity, generated again from the image set."""
    record = shown.groups[shown.reference][0]
    image, index = _first_image(record)
    assert record.corruptions is not None
    names = list(record.corruptions.table)
    lines, width = -(-len(names) // 2), len(SEVERITIES) + 1
    figure, axes = new_figure(0.485 * lines + 0.25, 0.025, nrows=lines, ncols=2 * width)
    for panel in axes.flat:
        hide_axes(panel)
    for column, panel in enumerate(axes[0]):
        panel.set_title(str(column % width), fontsize=6, loc="center", color=MUTED, fontweight="normal")
    for name, panels in zip(names, np.vstack([axes[:, :width], axes[:, width:]]), strict=False):
        made = [image, *(corrupt(image, name, each, seed=record.seed, sample_ids=[index]) for each in SEVERITIES)]
        for panel, tile in zip(panels, made, strict=True):
            show_image(panel, tile[0].numpy() / 255)
        label = panels[0].set_ylabel(name.replace("_", "\n", 1).replace("_", " "), fontsize=6)
        label.set(rotation=0, ha="right", va="center")
    caption = (
        f"The first evaluated image of {record.dataset} ({record.split}, number {index}) as it is (0) and under the "
        "corruptions of the evaluation, at severities 1 to 5."
    )
    alt = f"One image under {len(names)} corruptions at severities 1 to 5: {', '.join(names).replace('_', ' ')}."
    return Drawing("corrupted-images", "Examples of corruptions", caption, alt, figure)


def _first_image(record: Record) -> tuple[Any, int]:
    """Return the first evaluated image (1, C, H, W) and its index in the split, where the image set can be loaded."""
    import torch
    from pydantic import ValidationError

    from robustprune.data import load_data
    from robustprune.errors import RobustPruneError
    from robustprune.tickets.header import DataDescription

    samples, found = record.samples, record.corruptions
    if found is None or samples is None:
        raise NotDrawnError("the dense networks were not evaluated under corruptions, or their samples.npz are missing")
    if found.scale is None:
        raise NotDrawnError("the corrupted images were read from a folder, which the record does not hold")
    try:
        # Validated: a record must not decide what its reader's machine downloads or runs.
        data = load_data(**DataDescription.model_validate(record.data).model_dump(exclude_unset=True))
        split = data.require(record.split)
        index = int(samples["index"][0])
        image = split.take(torch.tensor([index]))
        is_same = int(split.labels[index]) == int(samples["label"][0])
    except (RobustPruneError, ValidationError, IndexError) as error:
        raise NotDrawnError(f"the image set {record.dataset} cannot be loaded here: {error}") from error
    if not is_same:
        raise NotDrawnError(f"the image set {record.dataset} on this machine is not the one that was evaluated")
    return image, index
