"""Training curves (loss, validation accuracy, learning rate), and the time and energy of training."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from robustprune.metrics import SeedMean, mean_over_seeds
from robustprune.records import Record
from robustprune.report.figures.drawing import Drawing, NotDrawnError
from robustprune.report.figures.figure_groups import FigureGroups
from robustprune.report.figures.style import add_legend, draw_curve, draw_means, new_figure, percent_axis, show_grid
from robustprune.report.table import Table, Value

_PANELS = {
    "learning_rate": ("Learning rate", 1.0),
    "train_loss": ("Training loss", 1.0),
    "validation_accuracy": ("Validation accuracy (%)", 100.0),
}
# Quantity → key of its metric, its name in a record, and its unit in that of the record.
_SPENT = {
    "Training time (s)": ("training_seconds", "seconds", 1.0),
    "Energy (Wh)": ("energy_kwh", "energy_kwh", 1e-3),
    "CO₂ (g)": ("co2_kg", "co2_kg", 1e-3),
}


def draw_training(shown: FigureGroups) -> Drawing:
    """Return the training curves, means over the seeds."""
    found = shown.having(lambda record: record.model.history)
    if not found:
        raise NotDrawnError(
            "the records hold no training history (the networks were not trained here, or the records are older)"
        )
    figures = [key for key in _PANELS if any(_values(records, key) for records in found.values())]
    if not figures:
        raise NotDrawnError("no epoch of the training histories is common to all networks of a kind")
    ratios = [0.55 if key == "learning_rate" else 1.0 for key in figures]
    figure, axes = new_figure(2.6, ncols=len(figures), width_ratios=ratios)
    rows: list[list[Value]] = []
    for panel, key in zip(axes[0], figures, strict=True):
        title, factor = _PANELS[key]
        bound = 100.0 if key == "validation_accuracy" else math.inf
        show_grid(panel)
        panel.set(title=title, xlabel="epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        drawn: list[float] = []
        for name, records in found.items():
            curve = {
                epoch: mean_over_seeds([factor * v for v in each], bounds=(0, bound))
                for epoch, each in _values(records, key).items()
            }
            if not curve:
                continue
            points = list(curve.values())
            draw_curve(panel, list(curve), points, shown.styles[name] | {"marker": ""}, band=key != "learning_rate")
            drawn += [each.mean for each in points]
            rows += [[name, title, epoch, each.mean, each.low, each.high] for epoch, each in curve.items()]
        if key == "validation_accuracy":
            percent_axis(panel, drawn)
        else:
            panel.set_ylim(0, 1.05 * max(drawn))
    add_legend(figure, {name: shown.styles[name] for name in found})
    held_out = (
        "Validation images are held out of the training images; they only tell which trainings failed. "
        if "validation_accuracy" in figures
        else ""
    )
    caption = shown.caption(f"Means over networks, bands: 95 % interval (Student's t). {held_out}{shown.seeds}.")
    columns = ("network", "metric", "epoch", "mean", "low", "high")
    data = Table("Training", columns, rows)
    return Drawing("training", "Training curves", caption, _say(found), figure, data)


def draw_energy(shown: FigureGroups) -> Drawing:
    """Return time, energy and CO₂ of training."""
    panels = {
        title: values
        for title, (_, place, _) in _SPENT.items()
        if (values := shown.collect(lambda record, place=place: record.model.training.get(place)))  # type: ignore[misc]
    }
    if not panels:
        raise NotDrawnError("the records hold no time or energy of training (the networks were not trained here)")
    figure, axes = new_figure(0.75 + 0.24 * len(shown.groups), ncols=len(panels), sharey=True)
    rows: list[list[Value]] = []
    said = []
    for panel, (title, values) in zip(axes[0], panels.items(), strict=True):
        cost, _, scale = _SPENT[title]
        scaled = {name: [value / scale for value in each] for name, each in values.items()}
        means = {name: mean_over_seeds(each) for name, each in scaled.items()}
        changes = _changes(means, shown.reference, [name for name in values if shown.is_alike(cost, name)])
        draw_means(panel, list(shown.groups), scaled, means, shown.styles, changes)
        panel.set_title(title)
        panel.locator_params(axis="x", nbins=4)
        rows += [[name, title, m.mean, m.low, m.high] for name, m in means.items()]
        said.append(f"{title}: " + "; ".join(f"{name} {mean.mean:.4g}" for name, mean in means.items()))
    methods = {str(r.model.training.get("energy_method")) for records in shown.groups.values() for r in records}
    named = "; ".join(sorted(methods - {"None", ""}))
    caption = shown.caption(
        "Time, energy and CO₂ of the training of one network, for a rewound ticket without the dense training before. "
        f"Marks and bars: mean with 95 % interval; dots: single networks; percentages: relative to {shown.reference}, "
        "where all were measured alike. Other load on the machine distorts them."
        + (f" Energy: {named}." if named else "")
    )
    columns = ("network", "quantity", "mean", "low", "high")
    data = Table("Time, energy and CO₂ of training", columns, rows)
    return Drawing("energy", "Time, energy and CO₂ of training", caption, f"{'. '.join(said)}.", figure, data)


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
            last = 100 * mean_over_seeds(list(accuracy.values())[-1]).mean
            said.append(f"{name}: {last:.1f} % of the validation images after {len(accuracy)} epochs")
        elif loss:
            last = mean_over_seeds(list(loss.values())[-1]).mean
            said.append(f"{name}: a training loss of {last:.3g} after {len(loss)} epochs")
    return f"At the end of training. {'; '.join(said)}." if said else "Learning rates of training."


def _changes(means: dict[str, SeedMean], reference: str, alike: Sequence[str]) -> dict[str, str]:
    """Return by what percentage the means of others differ from the dense networks'."""
    dense = means[reference].mean if reference in means else 0.0
    others = [name for name in alike if name != reference and dense > 0]
    return {name: f"{100 * (means[name].mean / dense - 1):+.0f} %".replace("-", "−") for name in others}
