"""Training curves: loss, accuracy on held-out images, learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from robustprune.records import Record
from robustprune.report.drawing import Drawing, LeftOutError
from robustprune.report.figures.labels import label_ends
from robustprune.report.figures.reading import Shown, estimate
from robustprune.report.figures.style import new_figure, percent_axis, series_style, show_grid
from robustprune.report.tables import Table, Value

_PANELS = {
    "learning_rate": ("Learning rate", 1.0),
    "train_loss": ("Training loss", 1.0),
    "validation_accuracy": ("Validation accuracy (%)", 100.0),
}


def draw_training(shown: Shown) -> Drawing:
    """Return what each epoch of training brought, over the seeds."""
    found = shown.having(lambda record: record.model.history)
    if not found:
        raise LeftOutError("the records hold no history of training (they are of networks not trained here, or older)")
    figures = [key for key in _PANELS if any(_values(records, key) for records in found.values())]
    if not figures:
        raise LeftOutError("the histories of training have no epoch and figure that all networks of a kind have")
    ratios = [0.55 if key == "learning_rate" else 1.0 for key in figures]
    figure, axes = new_figure(2.4, ncols=len(figures), width_ratios=ratios)
    rows: list[list[Value]] = []
    for panel, key in zip(axes[0], figures, strict=True):
        title, factor = _PANELS[key]
        bound = 100.0 if key == "validation_accuracy" else math.inf
        show_grid(panel)
        panel.set(title=title, xlabel="epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        ends, drawn = [], []
        for name, records in found.items():
            curve = {
                epoch: estimate([factor * v for v in each], bounds=(0, bound))
                for epoch, each in _values(records, key).items()
            }
            if not curve:
                continue
            style = series_style(shown.places[name])
            means = [each.mean for each in curve.values()]
            panel.plot(list(curve), means, **style | {"marker": ""})
            low, high = zip(*(each.ends for each in curve.values()), strict=True)
            if key != "learning_rate":
                panel.fill_between(list(curve), low, high, color=style["color"], alpha=0.13, linewidth=0)
            ends.append((means[-1], name, style))
            drawn += means
            rows += [[name, title, epoch, each.mean, each.low, each.high] for epoch, each in curve.items()]
        if key == "validation_accuracy":
            percent_axis(panel, drawn)
            label_ends(panel, ends)
        else:
            panel.set_ylim(0, 1.05 * max(drawn))
    held_out = (
        "The validation images are held out of the training images; no choice was made by them. "
        if "validation_accuracy" in figures
        else ""
    )
    caption = (
        f"Means over networks, bands: 95 % interval (Student's t). {held_out}{shown.seeds}. {shown.note}"
    ).strip()
    columns = ("network", "metric", "epoch", "mean", "low", "high")
    data = Table("Training", columns, rows)
    return Drawing("training", "Training", caption, _say(found), figure, data)


def _values(records: Sequence[Record], key: str) -> dict[int, list[float]]:
    """Return epoch → the figure of each network that was trained for it, where all have it."""
    curves = [
        {int(entry["epoch"] or 0): float(value) for entry in r.model.history if (value := entry.get(key)) is not None}
        for r in records
    ]
    return {epoch: [curve[epoch] for curve in curves] for epoch in curves[0] if all(epoch in c for c in curves)}


def _say(found: dict[str, Sequence[Record]]) -> str:
    said = []
    for name, records in found.items():
        accuracy, loss = _values(records, "validation_accuracy"), _values(records, "train_loss")
        if accuracy:
            last = 100 * float(np.mean(list(accuracy.values())[-1]))
            said.append(f"{name}: {last:.1f} % of the validation images after {len(accuracy)} epochs")
        elif loss:
            last = float(np.mean(list(loss.values())[-1]))
            said.append(f"{name}: a training loss of {last:.3g} after {len(loss)} epochs")
    return f"At the end of training. {'; '.join(said)}." if said else "Learning rates of training."
