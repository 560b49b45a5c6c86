"""Out-of-distribution detection: ROC curves, and the scores behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from robustprune.metrics import SeedMean, mean_over_seeds
from robustprune.ood.ood_result import OodEntry
from robustprune.records import Record
from robustprune.report.figures.drawing import Drawing, LeftOutError
from robustprune.report.figures.shown import Shown
from robustprune.report.figures.style import LINE, MUTED, new_figure, show_grid
from robustprune.report.table import Table, Value

_Floats = NDArray[np.float64]
_KNOWN = ("energy", "knn", "msp", "vim", "mahalanobis", "max_logit")  # those that papers compare with, first to last
_DETECTORS, _SETS = 3, 3
_RATES = np.concatenate([np.linspace(0, 0.1, 41), np.linspace(0.1, 1, 46)[1:]])
_GROUPS = ("near", "far", "other", "shifted", "sanity")


def draw_detection(shown: Shown) -> Iterator[Drawing]:
    """Yield a figure for each of up to three out-of-distribution sets."""
    found = shown.having(lambda record: record.ood)
    if not found:
        raise LeftOutError("no foreign images were shown to the networks")
    if not all(record.samples for records in found.values() for record in records):
        raise LeftOutError("scores of single images are not there (the records' samples.npz are missing)")
    entries = next(iter(found.values()))[0].ood
    sets = sorted(entries, key=lambda entry: _GROUPS.index(entry.group))
    drawn = [(entry, names) for entry in sets if (names := _detectors(entry, found))][:_SETS]
    if not drawn:
        raise LeftOutError("no detector has a figure for every network")
    left = len(entries) - len(drawn)
    for place, (entry, names) in enumerate(drawn, start=1):
        yield _draw_set(shown, found, entry, names, place, f" {left} more foreign sets are not drawn." if left else "")


def _detectors(entry: OodEntry, found: dict[str, Sequence[Record]]) -> list[str]:
    """Return the detectors to draw: those that have a score for all networks, the best known first."""
    scored = [
        name
        for name in entry.detectors
        if all(_auroc(record, entry.dataset, name) is not None for records in found.values() for record in records)
    ]
    return sorted(scored, key=lambda name: _KNOWN.index(name) if name in _KNOWN else len(_KNOWN))[:_DETECTORS]


def _auroc(record: Record, dataset: str, detector: str) -> float | None:
    for entry in record.ood:
        if entry.dataset == dataset and detector in entry.detectors:
            return entry.detectors[detector].auroc
    return None


def _draw_set(
    shown: Shown, found: dict[str, Sequence[Record]], entry: OodEntry, names: Sequence[str], place: int, left: str
) -> Drawing:
    heights = [1.9, 0.34 * len(found) + 0.2]
    figure, axes = new_figure(sum(heights) + 0.7, nrows=2, ncols=len(names), height_ratios=heights)
    rows: list[list[Value]] = []
    said = []
    for column, detector in enumerate(names):
        areas = {
            name: [100 * float(_auroc(record, entry.dataset, detector) or 0) for record in records]
            for name, records in found.items()
        }
        means = {name: mean_over_seeds(each, bounds=(0, 100)) for name, each in areas.items()}
        _draw_roc(axes[0, column], shown, found, entry.dataset, detector)
        axes[0, column].set_title(detector)
        _draw_scores(axes[1, column], shown, found, entry.dataset, detector, means)
        rows += [[name, detector, mean.mean, mean.low, mean.high] for name, mean in means.items()]
        said.append(f"{detector}: " + "; ".join(f"{name} {mean.mean:.1f} %" for name, mean in means.items()))
    axes[0, 0].set_ylabel("foreign images found (%)")
    axes[1, 0].set_yticks([len(found) - 0.7 - row for row in range(len(found))], list(found))
    caption = (
        f"{entry.dataset} ({entry.n_out:,} images) told from {next(iter(found.values()))[0].dataset} ({entry.n_in:,} "
        f"images) by {len(names)} of {len(entry.detectors)} detectors. Above: ROC curves, means over networks. Below: "
        "how scores are spread, of the first network of each kind; grey: images of its own set, line: foreign ones; "
        f"the number: area under the curve (AUROC, %, mean over networks). {shown.seeds}. {shown.note}{left}"
    ).strip()
    return Drawing(
        f"ood-{place}-{_slug(entry.dataset)}",
        f"Telling {entry.dataset} apart",
        caption,
        f"AUROC on {entry.dataset}. {'. '.join(said)}.",
        figure,
        Table(f"AUROC on {entry.dataset}", ("network", "detector", "AUROC (%)", "low (%)", "high (%)"), rows),
    )


def _slug(text: str) -> str:
    return "-".join("".join(letter if letter.isalnum() and letter.isascii() else " " for letter in text).split())[:40]


def _scores(record: Record, dataset: str, detector: str) -> tuple[_Floats, _Floats]:
    samples: dict[str, Any] = record.samples or {}
    place = [entry.dataset for entry in record.ood].index(dataset)
    return samples[f"ood_in_{detector}"].astype(np.float64), samples[f"ood{place}_{detector}"].astype(np.float64)


def roc_curve(inside: _Floats, outside: _Floats) -> tuple[_Floats, _Floats]:
    """Return false and true positive rates as the threshold falls, from (0, 0) to (1, 1), ties taken together."""
    values, places = np.unique(-np.concatenate([inside, outside]), return_inverse=True)
    false = np.bincount(places[: len(inside)], minlength=len(values)).cumsum() / len(inside)
    true = np.bincount(places[len(inside) :], minlength=len(values)).cumsum() / len(outside)
    return np.append(0, false), np.append(0, true)


def _rates_at(record: Record, dataset: str, detector: str) -> _Floats:
    false, true = roc_curve(*_scores(record, dataset, detector))
    # Of a vertical piece the upper end counts.
    last = np.append(np.diff(false) > 0, True)
    return np.asarray(np.interp(_RATES, false[last], true[last]))


def _draw_roc(axes: Axes, shown: Shown, found: dict[str, Sequence[Record]], dataset: str, detector: str) -> None:
    show_grid(axes, "both")
    axes.plot([0, 100], [0, 100], color=MUTED, linewidth=0.7, linestyle=(0, (2, 2)))
    for name, records in found.items():
        style = shown.style(name)
        mean = np.mean([_rates_at(record, dataset, detector) for record in records], axis=0)
        axes.plot(100 * _RATES, 100 * mean, **style | {"marker": ""})
    axes.set(xlim=(-1, 101), ylim=(-1, 101), xlabel="own images flagged (%)")
    axes.set(xticks=range(0, 101, 25), yticks=range(0, 101, 25))


def _draw_scores(
    axes: Axes,
    shown: Shown,
    found: dict[str, Sequence[Record]],
    dataset: str,
    detector: str,
    areas: dict[str, SeedMean],
) -> None:
    """Draw the densities of both kinds of scores, a line for each kind of network, each on a scale of its own."""
    for row, (name, records) in enumerate(found.items()):
        inside, outside = _scores(records[0], dataset, detector)
        low, high = np.quantile(np.concatenate([inside, outside]), [0.005, 0.995])
        edges = np.linspace(low, high if high > low else low + 1, 41)
        middles = (edges[:-1] - edges[0]) / (edges[-1] - edges[0]) + 0.0125
        heights = [np.histogram(np.clip(each, low, high), edges)[0] / len(each) for each in (inside, outside)]
        top = max(height.max() for height in heights)
        base = len(found) - 1 - row
        style = shown.style(name)
        axes.axhline(base, color=LINE, linewidth=0.6)
        axes.fill_between(
            middles, base, base + 0.85 * heights[0] / top, step="mid", color=MUTED, alpha=0.35, linewidth=0
        )
        axes.step(middles, base + 0.85 * heights[1] / top, where="mid", color=style["color"], linewidth=1)
        axes.plot([-0.02], [base + 0.3], **style, markersize=3.5, clip_on=False)
        axes.annotate(
            f"{areas[name].mean:.1f}", (1, base + 0.3), (4, 0), textcoords="offset points", va="center", fontsize=6.8
        )
    axes.set(ylim=(-0.05, len(found)), xlim=(0, 1), xticks=[], yticks=[], xlabel="score, foreign to the right →")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0, pad=7)
