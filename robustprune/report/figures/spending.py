"""What the networks cost: time, energy and CO₂ of training, and everything else relative to dense."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from matplotlib.axes import Axes

from robustprune.comparison.from_record import measured_alike
from robustprune.records import Record
from robustprune.report.drawing import Drawing, LeftOutError
from robustprune.report.figures.reading import Estimate, Shown, estimate
from robustprune.report.figures.style import INK, MUTED, PAPER, new_figure, series_style, show_grid
from robustprune.report.tables import Table, Value

_Figure = Callable[[Record], float | None]


def _of_training(name: str) -> _Figure:
    return lambda record: record.model.training.get(name)


def _latency(name: str) -> _Figure:
    def read(record: Record) -> float | None:
        found = getattr(record.model, name)
        return None if found is None else float(found["median"])

    return read


_SPENT: dict[str, tuple[_Figure, tuple[tuple[float, str], ...]]] = {
    "Training time": (_of_training("seconds"), ((1, "s"), (60, "min"), (3600, "h"))),
    "Energy": (_of_training("energy_kwh"), ((1e-6, "mWh"), (1e-3, "Wh"), (1, "kWh"))),
    "CO₂": (_of_training("co2_kg"), ((1e-6, "mg"), (1e-3, "g"), (1, "kg"))),
}
# What was measured, and the metric whose circumstances it has.
_MEASURED = {
    "Training time": "training_seconds",
    "Energy": "energy_kwh",
    "CO₂": "co2_kg",
    "latency, 1 image": "latency",
    "latency, 128 images": "latency",
    "training time": "training_seconds",
    "energy": "energy_kwh",
}
_RELATIVE: dict[str, _Figure] = {
    "multiply-accumulates": lambda record: record.model.macs,
    "parameters": lambda record: record.model.parameters,
    "memory in training": lambda record: record.model.training_memory,
    "latency, 1 image": _latency("latency_ms"),
    "latency, 128 images": _latency("batch_latency_ms"),
    "training time": _of_training("seconds"),
    "energy": _of_training("energy_kwh"),
}


def draw_energy(shown: Shown) -> Drawing:
    """Return bars of the time, the energy and the CO₂ that training took."""
    panels = {title: _collect(shown, read) for title, (read, _) in _SPENT.items()}
    panels = {title: values for title, values in panels.items() if values}
    if not panels:
        raise LeftOutError("the records do not say what training took (networks that were not trained here)")
    figure, axes = new_figure(0.75 + 0.24 * len(shown.groups), ncols=len(panels), sharey=True)
    rows: list[list[Value]] = []
    said = []
    for panel, (title, values) in zip(axes[0], panels.items(), strict=True):
        largest = max(max(each) for each in values.values())
        scale, unit = next((each for each in reversed(_SPENT[title][1]) if largest >= each[0]), _SPENT[title][1][0])
        means = {name: estimate([value / scale for value in each]) for name, each in values.items()}
        alike = [name for name in values if _is_alike(shown, title, name)]
        _draw_bars(panel, shown, {name: [v / scale for v in each] for name, each in values.items()}, means, alike)
        panel.set_title(f"{title} ({unit})")
        rows += [[name, f"{title} ({unit})", m.mean, m.low, m.high] for name, m in means.items()]
        said.append(f"{title}: " + "; ".join(f"{name} {mean.mean:.3g} {unit}" for name, mean in means.items()))
    places = range(len(shown.groups))
    axes[0, 0].set_yticks(places, list(shown.groups))
    axes[0, 0].set_ylim(len(shown.groups) - 0.4, -0.6)
    caption = (
        "What the training of one network took; of a rewound ticket, its own training alone. Bars: means, dots: single "
        f"networks, percentages: against {shown.reference}, where measured alike. Measured on a machine that may have "
        f"had other work, so differences of a few percent mean little.{_methods(shown)} {shown.note}"
    ).strip()
    columns = ("network", "quantity", "mean", "low", "high")
    data = Table("Time, energy and CO₂ of training", columns, rows)
    return Drawing("energy", "Time, energy and CO₂ of training", caption, f"{'. '.join(said)}.", figure, data)


def draw_costs(shown: Shown) -> Drawing:
    """Return every cost as a percentage of the dense networks'."""
    others = [name for name in shown.groups if name != shown.reference]
    if not others:
        raise LeftOutError("there is nothing to compare the dense networks with")
    lines: dict[str, dict[str, float]] = {}
    for title, read in _RELATIVE.items():
        values = _collect(shown, read)
        # Medians, as one that was measured while the machine did something else says nothing.
        dense = float(np.median(values.get(shown.reference, [0.0])))
        alike = [name for name in others if name in values and _is_alike(shown, title, name)]
        if dense > 0 and alike:
            lines[title] = {name: 100 * float(np.median(values[name])) / dense for name in alike}
    figure, axes = new_figure(0.6 + (0.16 + 0.11 * len(others)) * len(lines), ncols=1)
    panel = axes[0, 0]
    show_grid(panel, "x")
    panel.axvline(100, color=series_style(0)["color"], linewidth=1)
    for row, found in enumerate(lines.values()):
        for place, name in enumerate(others):
            if name not in found:
                continue
            style, height = series_style(shown.places[name]), row + 0.7 * ((place + 0.5) / len(others) - 0.5)
            panel.plot([100, found[name]], [height, height], color=style["color"], linewidth=0.8, alpha=0.6)
            panel.plot([found[name]], [height], **style, markersize=4.5)
    panel.set_yticks(range(len(lines)), list(lines))
    panel.set_ylim(len(lines) - 0.45, -0.55)
    panel.tick_params(axis="y", length=0)
    panel.set_xlabel(f"% of {shown.reference} = 100, less is better")
    panel.set_xlim(left=max(0.0, min(100, *(each for found in lines.values() for each in found.values())) - 12))
    handles = [panel.plot([], [], **series_style(shown.places[name]), markersize=4.5, label=name)[0] for name in others]
    columns = max(1, 120 // (max(map(len, others)) + 9))  # letters that fit in a line
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, frameon=False, fontsize=7, handlelength=2.2)
    caption = (
        f"Costs against {shown.reference}, medians over networks. Counted: multiply-accumulates, parameters, memory "
        "(parameters, buffers and activations of a training step of 128 images). Measured, on a machine that may have "
        f"had other work: the rest, where networks were measured alike. {shown.note}"
    ).strip()
    said = [
        f"{title}: " + "; ".join(f"{name} {each:.0f} %" for name, each in found.items())
        for title, found in lines.items()
    ]
    rows: list[list[Value]] = [[name, title, each] for title, found in lines.items() for name, each in found.items()]
    data = Table(f"Costs in percent of {shown.reference}", ("network", "cost", "median (%)"), rows)
    return Drawing("costs", "What is saved", caption, f"In percent of dense. {'. '.join(said)}.", figure, data)


def _collect(shown: Shown, read: _Figure) -> dict[str, list[float]]:
    """Return a figure of each network, of the kinds of which all networks have it."""
    found = {name: [read(record) for record in records] for name, records in shown.groups.items()}
    return {name: [float(v) for v in each if v is not None] for name, each in found.items() if None not in each}


def _is_alike(shown: Shown, title: str, name: str) -> bool:
    """Return whether a cost of all networks of a kind was measured as it was of all dense ones, if it was measured."""
    if title not in _MEASURED:
        return True
    pairs = product(shown.groups[name], shown.groups[shown.reference])
    return all(measured_alike(_MEASURED[title], own, dense) for own, dense in pairs)


def _draw_bars(
    axes: Axes, shown: Shown, values: dict[str, list[float]], means: dict[str, Estimate], alike: Sequence[str]
) -> None:
    show_grid(axes, "x")
    names = list(shown.groups)
    dense = means.get(shown.reference)
    most = max(max(each) for each in values.values())
    for name, mean in means.items():
        row, colour = names.index(name), series_style(shown.places[name])["color"]
        axes.barh(row, mean.mean, height=0.6, color=colour, alpha=0.8)
        axes.plot(
            values[name],
            [row] * len(values[name]),
            linestyle="",
            marker="o",
            markersize=3,
            color=INK,
            markeredgecolor=PAPER,
            markeredgewidth=0.5,
        )
        if dense is not None and name != shown.reference and name in alike and dense.mean > 0:
            change = f"{100 * (mean.mean / dense.mean - 1):+.0f} %".replace("-", "−")
            reach = max(mean.mean, *values[name])
            axes.annotate(
                change, (reach, row), (4, 0), textcoords="offset points", va="center", fontsize=6.5, color=MUTED
            )
    axes.set_xlim(0, 1.22 * most)
    axes.locator_params(axis="x", nbins=4)
    axes.tick_params(axis="y", length=0)


def _methods(shown: Shown) -> str:
    methods = {str(r.model.training.get("energy_method")) for records in shown.groups.values() for r in records}
    named = sorted(methods - {"None", ""})
    return f" Energy: {'; '.join(named)}." if named else ""
