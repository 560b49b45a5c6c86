"""Selective prediction (the error rate among the images of highest confidence), and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from robustprune.metrics import confidence_bins, mean_over_seeds, risk_coverage
from robustprune.records import Record
from robustprune.report.figures.drawing import Drawing, NotDrawnError
from robustprune.report.figures.figure_groups import FigureGroups
from robustprune.report.figures.style import MUTED, add_legend, draw_curve, draw_means, new_figure, show_grid
from robustprune.report.table import Table, Value

_Floats = NDArray[np.float64]
_COVERAGES = np.linspace(0.05, 1, 96)
_BINS = 15


def draw_risk_coverage(shown: FigureGroups) -> Drawing:
    """Return the risk–coverage curve (error rate vs. share of images answered), and the area under it."""
    found = _with_confidence(shown)
    curves = {name: [_risk(record) for record in records] for name, records in found.items()}
    figure, axes = new_figure(2.8, ncols=2, width_ratios=[1.5, 1])
    panel = axes[0, 0]
    show_grid(panel)
    rows: list[list[Value]] = []
    most = 1.0
    for name, each in curves.items():
        points = [
            mean_over_seeds(column, bounds=(0, 100)) for column in np.array([risk for risk, _ in each]).T.tolist()
        ]
        draw_curve(panel, 100 * _COVERAGES, points, shown.styles[name] | {"marker": ""})
        most = max(most, *(point.mean for point in points))
        rows += [
            [name, float(100 * c), p.mean, p.low, p.high] for c, p in list(zip(_COVERAGES, points, strict=True))[::5]
        ]
    panel.set(xlabel="coverage (%)", ylabel="selective risk (%)", title="Risk–coverage")
    panel.set(xlim=(5, 100), ylim=(0, 1.15 * most))
    areas = {name: [area for _, area in each] for name, each in curves.items()}
    said = _draw_errors(axes[0, 1], shown, areas, "Area under the curve (%)")
    add_legend(figure, {name: shown.styles[name] for name in found})
    caption = shown.caption(
        "Error rate (selective risk) on the most confident images vs. their share (coverage); confidence is the "
        "largest softmax probability. Bands and bars: 95 % interval of the mean over networks. "
        f"{shown.seeds}, {shown.images:,} images."
    )
    alt = f"Area under the risk–coverage curve: {said}."
    columns = ("network", "coverage (%)", "risk (%)", "low (%)", "high (%)")
    data = Table("Risk–coverage", columns, rows)
    return Drawing("risk-coverage", "Risk–coverage curve", caption, alt, figure, data)


def draw_calibration(shown: FigureGroups) -> Drawing:
    """Return accuracy against confidence in the bins of the calibration error, and that error."""
    found = _with_confidence(shown)
    figure, axes = new_figure(3.0, ncols=2, width_ratios=[1.5, 1])
    panel = axes[0, 0]
    show_grid(panel, "both")
    panel.plot([0, 100], [0, 100], color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
    rows: list[list[Value]] = []
    least = 100.0
    for name, records in found.items():
        style = shown.styles[name]
        confidence, accuracy, count = _reliability(records)
        panel.plot(confidence, accuracy, **style, markersize=3.5, label=name)
        least = min(least, *confidence, *accuracy)
        rows += [[name, *values] for values in zip(confidence, accuracy, count, strict=True)]
    least = max(0.0, 10 * np.floor(least / 10 - 0.01))
    panel.set(xlim=(least, 101), ylim=(least, 103), xlabel="confidence (%)", ylabel="accuracy (%)", title="Reliability")
    panel.annotate("underconfident", (0.03, 0.95), xycoords="axes fraction", fontsize=6.5, color=MUTED, va="top")
    panel.annotate("overconfident", (0.97, 0.04), xycoords="axes fraction", fontsize=6.5, color=MUTED, ha="right")
    errors = {name: [100 * record.clean.ece for record in records] for name, records in found.items()}
    said = _draw_errors(axes[0, 1], shown, errors, "Calibration error (ECE, %)")
    add_legend(figure, {name: shown.styles[name] for name in found})
    caption = shown.caption(
        f"Accuracy in {_BINS} bins of confidence (largest softmax probability), over all networks of a kind; bins with "
        "fewer than ten images are not drawn; dashed: perfect calibration. "
        "Right: expected calibration error, bars: 95 % interval of the mean over networks. "
        f"{shown.seeds}, {shown.images:,} images."
    )
    columns = ("network", "confidence (%)", "accuracy (%)", "images")
    data = Table("Reliability", columns, rows)
    alt = f"Expected calibration error: {said}."
    return Drawing("calibration", "Calibration", caption, alt, figure, data)


def _with_confidence(shown: FigureGroups) -> dict[str, Sequence[Record]]:
    found = shown.having(lambda record: "confidence" in (record.samples or {}))
    if not found:
        raise NotDrawnError("the confidence of each image is missing (the samples.npz beside the records)")
    return found


def _right(record: Record) -> tuple[_Floats, NDArray[np.bool_]]:
    samples: dict[str, Any] = record.samples or {}
    return samples["confidence"].astype(np.float64), samples["clean_prediction"] == samples["label"]


def _risk(record: Record) -> tuple[list[float], float]:
    confidence, right = _right(record)
    coverage, risk = risk_coverage(-confidence, right)
    return [float(value) for value in 100 * np.interp(_COVERAGES, coverage, risk)], float(100 * risk.mean())


def _reliability(records: Sequence[Record]) -> tuple[list[float], list[float], list[int]]:
    both = [_right(record) for record in records]
    confidence, right = (np.concatenate(each) for each in zip(*both, strict=True))
    bins = confidence_bins(confidence, _BINS)
    count = np.bincount(bins, minlength=_BINS)
    kept = count >= min(10, count.max())
    means = [100 * np.bincount(bins, values, _BINS)[kept] / count[kept] for values in (confidence, right)]
    return means[0].tolist(), means[1].tolist(), count[kept].tolist()


def _draw_errors(axes: Axes, shown: FigureGroups, values: dict[str, list[float]], title: str) -> str:
    """Draw figures of which lower ones are better, and return their means in words."""
    means = {name: mean_over_seeds(each, bounds=(0, 100)) for name, each in values.items()}
    draw_means(axes, list(values), values, means, shown.styles, {name: f"{m.mean:.2f}" for name, m in means.items()})
    axes.set(title=title, xlabel="lower is better")
    return "; ".join(f"{name} {mean.mean:.2f} %" for name, mean in means.items())
