"""Out-of-distribution detection: ROC curves, and the scores behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from robustprune.metrics import SeedMean, mean_over_seeds
from robustprune.ood.ood_result import OodEntry
from robustprune.records import Record
from robustprune.report.figures.drawing import Drawing, NotDrawnError, slug
from robustprune.report.figures.figure_groups import FigureGroups
from robustprune.report.figures.style import INK, LINE, MUTED, add_legend, new_figure, show_grid
from robustprune.report.table import Table, Value

_Floats = NDArray[np.float64]
_Scores = tuple[_Floats, _Floats]  # of in-distribution and of OOD images
_KNOWN = (
    "energy",
    "knn",
    "msp",
    "vim",
    "mahalanobis",
    "max_logit",
)  # the detectors that papers compare with most, first
_DETECTORS, _SETS = 3, 3
_RATES = np.concatenate([np.linspace(0, 0.1, 41), np.linspace(0.1, 1, 46)[1:]])
_GROUPS = ("near", "far", "other", "shifted", "sanity")


def draw_detection(shown: FigureGroups) -> Iterator[Drawing]:
    """Yield a figure for each of up to three out-of-distribution sets."""
    found = shown.having(lambda record: record.ood)
    if not found:
        raise NotDrawnError("no out-of-distribution images were evaluated")
    if not all(record.samples for records in found.values() for record in records):
        raise NotDrawnError("the scores of each image are missing (the samples.npz beside the records)")
    entries = next(iter(found.values()))[0].ood
    sets = sorted(entries, key=lambda entry: _GROUPS.index(entry.group))
    drawn = [(entry, areas) for entry in sets if (areas := _areas(entry, found))][:_SETS]
    if not drawn:
        raise NotDrawnError("no detector has an AUROC for every network")
    left = len(entries) - len(drawn)
    note = f" {left} more out-of-distribution sets are not drawn." if left else ""
    for place, (entry, areas) in enumerate(drawn, start=1):
        yield _draw_set(shown, entry, areas, place, note)


def _areas(entry: OodEntry, found: Mapping[str, Sequence[Record]]) -> dict[str, dict[str, SeedMean]]:
    """Return detector → network → AUROC in percent, of detectors with one for all networks, the best known first."""
    areas: dict[str, dict[str, SeedMean]] = {}
    for detector in sorted(entry.detectors, key=lambda name: _KNOWN.index(name) if name in _KNOWN else len(_KNOWN)):
        values = {name: [_auroc(record, entry.dataset, detector) for record in own] for name, own in found.items()}
        if not any(None in each for each in values.values()):
            areas[detector] = {
                name: mean_over_seeds([100 * area for area in each if area is not None], bounds=(0, 100))
                for name, each in values.items()
            }
    return dict(list(areas.items())[:_DETECTORS])


def _auroc(record: Record, dataset: str, detector: str) -> float | None:
    for entry in record.ood:
        if entry.dataset == dataset and detector in entry.detectors:
            return entry.detectors[detector].auroc
    return None


def _draw_set(
    shown: FigureGroups, entry: OodEntry, areas: Mapping[str, Mapping[str, SeedMean]], place: int, note: str
) -> Drawing:
    names = list(next(iter(areas.values())))
    heights = [1.9, 0.34 * len(names) + 0.2]
    figure, axes = new_figure(sum(heights) + 1.0, nrows=2, ncols=len(areas), height_ratios=heights)
    rows: list[list[Value]] = []
    said = []
    for (above, below), (detector, means) in zip(axes.T, areas.items(), strict=True):
        scores = {name: [_scores(each, entry.dataset, detector) for each in shown.groups[name]] for name in names}
        _draw_roc(above, shown, scores)
        above.set_title(detector)
        _draw_scores(below, shown, {name: each[0] for name, each in scores.items()}, means)
        rows += [[name, detector, mean.mean, mean.low, mean.high] for name, mean in means.items()]
        said.append(f"{detector}: " + "; ".join(f"{name} {mean.mean:.1f} %" for name, mean in means.items()))
    axes[0, 0].set_ylabel("true positive rate (%)")
    axes[1, 0].set_ylabel("density", labelpad=12)
    _add_legend(figure, {name: shown.styles[name] for name in names})
    own = shown.groups[shown.reference][0].dataset
    caption = shown.caption(
        f"Detection of {entry.dataset} (OOD, {entry.n_out:,} images) against {own} (in-distribution, {entry.n_in:,} "
        f"images) by {len(areas)} of {len(entry.detectors)} detectors. Above: ROC curves, means over networks; OOD "
        "images are the positives. Below: histograms of the scores of the first network of each kind; beside them "
        f"AUROC in percent, mean over networks. {shown.seeds}.{note}"
    )
    data = Table(f"AUROC on {entry.dataset}", ("network", "detector", "AUROC (%)", "low (%)", "high (%)"), rows)
    name, title = f"ood-{place}-{slug(entry.dataset)}", f"OOD detection: {entry.dataset}"
    return Drawing(name, title, caption, f"AUROC on {entry.dataset}. {'. '.join(said)}.", figure, data)


def _add_legend(figure: Figure, styles: Mapping[str, Mapping[str, Any]]) -> None:
    """Name the networks, and below them the two histograms."""
    add_legend(figure, styles)
    histograms = [
        Patch(facecolor=MUTED, alpha=0.35, label="in-distribution"),
        Line2D([], [], color=INK, linewidth=1, label="OOD"),
    ]
    figure.legend(handles=histograms, loc="outside lower right", ncols=2, frameon=False, fontsize=7)


def _scores(record: Record, dataset: str, detector: str) -> _Scores:
    samples: dict[str, Any] = record.samples or {}
    place = [entry.dataset for entry in record.ood].index(dataset)
    return samples[f"ood_in_{detector}"].astype(np.float64), samples[f"ood{place}_{detector}"].astype(np.float64)


def roc_curve(inside: _Floats, outside: _Floats) -> tuple[_Floats, _Floats]:
    """Return false and true positive rates as the threshold falls, from (0, 0) to (1, 1), ties taken together."""
    values, places = np.unique(-np.concatenate([inside, outside]), return_inverse=True)
    false = np.bincount(places[: len(inside)], minlength=len(values)).cumsum() / len(inside)
    true = np.bincount(places[len(inside) :], minlength=len(values)).cumsum() / len(outside)
    return np.append(0, false), np.append(0, true)


def _rates_at(scores: _Scores) -> _Floats:
    false, true = roc_curve(*scores)
    # Of a vertical piece the upper end counts.
    last = np.append(np.diff(false) > 0, True)
    return np.asarray(np.interp(_RATES, false[last], true[last]))


def _draw_roc(axes: Axes, shown: FigureGroups, scores: Mapping[str, Sequence[_Scores]]) -> None:
    show_grid(axes, "both")
    axes.plot([0, 100], [0, 100], color=MUTED, linewidth=0.7, linestyle=(0, (2, 2)))
    for name, each in scores.items():
        mean = np.mean(list(map(_rates_at, each)), axis=0)
        axes.plot(100 * _RATES, 100 * mean, **shown.styles[name] | {"marker": ""})
    axes.set(xlim=(-1, 101), ylim=(-1, 101), xlabel="false positive rate (%)")
    axes.set(xticks=range(0, 101, 25), yticks=range(0, 101, 25))


def _draw_scores(axes: Axes, shown: FigureGroups, scores: Mapping[str, _Scores], areas: Mapping[str, SeedMean]) -> None:
    """Draw histograms of in-distribution and OOD scores: a row for each kind of network, on a scale of its own."""
    for base, (name, both) in zip(reversed(range(len(scores))), scores.items(), strict=True):
        low, high = np.quantile(np.concatenate(both), [0.005, 0.995])
        edges = np.linspace(low, high if high > low else low + 1, 41)
        middles = np.arange(40) / 40 + 0.0125
        shares = [np.histogram(np.clip(each, low, high), edges)[0] / len(each) for each in both]
        inside, outside = base + 0.85 * np.array(shares) / np.max(shares)
        style = shown.styles[name]
        axes.axhline(base, color=LINE, linewidth=0.6)
        axes.fill_between(middles, base, inside, step="mid", color=MUTED, alpha=0.35, linewidth=0)
        axes.step(middles, outside, where="mid", color=style["color"], linewidth=1)
        axes.plot([-0.02], [base + 0.3], **style, markersize=3.5, clip_on=False)
        text = f"{areas[name].mean:.1f}"
        axes.annotate(text, (1, base + 0.3), (4, 0), textcoords="offset points", va="center", fontsize=6.8)
    axes.set(ylim=(-0.05, len(scores)), xlim=(0, 1), xticks=[], yticks=[], xlabel="detector score, OOD to the right →")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0, pad=7)
