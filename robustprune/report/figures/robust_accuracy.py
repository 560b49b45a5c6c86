"""Networks under attack: robust accuracy vs. budget ε, and adversarial examples with their perturbations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from robustprune.attacks import describe_optimality
from robustprune.attacks.norms import write_epsilon
from robustprune.metrics import SeedMean
from robustprune.records import AttackEntry, Record
from robustprune.report.figures.drawing import Drawing, NotDrawnError
from robustprune.report.figures.figure_groups import (
    INTERVAL,
    FigureGroups,
    attack_values,
    name_attack,
    share_over_seeds,
)
from robustprune.report.figures.style import (
    add_legend,
    draw_curve,
    hide_axes,
    new_figure,
    percent_axis,
    shorten,
    show_grid,
    show_image,
)
from robustprune.report.table import Table

_PANELS = 4
_COLUMNS, _KINDS = 8, 2
_WIDE = 16  # ratio of budgets from which the axis is logarithmic
_POINTS = 51  # of the curve of a minimum-norm attack, which knows all budgets
_BROKEN = 0.98  # share of the broken samples that such a curve shows


def draw_robust_accuracy(shown: FigureGroups) -> Drawing:
    """Return a panel for each attack: robust accuracy vs. ε, from clean accuracy at ε = 0 to the largest budget."""
    grids = _grids(shown)
    curves = {name: _curves(records, grids) for name, records in shown.groups.items()}
    attacks = [key for key in curves[shown.reference] if len(curves[shown.reference][key]) > 1]
    if not attacks:
        raise NotDrawnError("no attack was run whose checks passed")
    drawn = sorted(attacks, key=lambda key: -len(curves[shown.reference][key]))[:_PANELS]
    columns = min(len(drawn), 2)
    rows = -(-len(drawn) // columns)
    figure, grid = new_figure(2.5 * rows + 0.3, ncols=columns, nrows=rows)
    for axes in grid.flat[len(drawn) :]:
        axes.set_visible(False)
    findings, table = [], []
    for axes, key in zip(grid.flat, drawn, strict=False):
        found = {name: own[key] for name, own in curves.items() if len(own.get(key, {})) > 1}
        attack = name_attack(*key)
        _draw_panel(axes, shown, found, key[1])
        axes.set(title=attack, xlabel="budget ε")
        findings.append(_say(key, found))
        table += [
            [name, attack, epsilon, each.mean, each.low, each.high]
            for name, curve in found.items()
            for epsilon, each in curve.items()
        ]
    for axes in grid[:, 0]:
        axes.set_ylabel("robust accuracy (%)")
    first = shown.groups[shown.reference][0]
    findings += [f"Of attacks on {shown.reference} in {text}." for text in describe_optimality(first.optimality)]
    add_legend(figure, shown.styles)
    is_linf = all(norm == "linf" for _, norm in drawn)
    budget = "the largest allowed change of a pixel" if is_linf else "the largest allowed change of an image"
    caption = shown.caption(
        f"Accuracy under attack vs. the budget ε, {budget}; at ε = 0 it is clean accuracy. Bands: {INTERVAL}. "
        f"{shown.seeds}, {shown.images:,} images.{_invalid(shown)}"
    )
    headings = ("network", "attack", "ε", "accuracy (%)", "low (%)", "high (%)")
    data = Table("Robust accuracy vs. ε", headings, table)
    return Drawing("robust-accuracy", "Robust accuracy vs. ε", caption, " ".join(findings), figure, data)


_Curve = dict[float, SeedMean]


_Grids = dict[tuple[str, str], NDArray[Any]]


def _grids(shown: FigureGroups) -> _Grids:
    """Return the budgets at which minimum-norm attacks are drawn: up to where all but a few samples are broken."""
    found: dict[tuple[str, str], list[NDArray[Any]]] = {}
    for records in shown.groups.values():
        for record in records:
            for key, distances in _distances(record).items():
                found.setdefault(key, []).append(distances[np.isfinite(distances)])
    together = {key: np.concatenate(each) for key, each in found.items()}
    return {
        key: np.linspace(0, np.quantile(each, _BROKEN), _POINTS)[1:] for key, each in together.items() if each.any()
    }


def _distances(record: Record) -> dict[tuple[str, str], NDArray[Any]]:
    """Return (attack, norm) → distances (n,) of the samples, of minimum-norm attacks that passed their checks."""
    samples = record.samples or {}
    return {
        (entry.name, entry.norm): samples[f"attack{place}_distance"]
        for place, entry in enumerate(record.attacks)
        if entry.valid and f"attack{place}_distance" in samples
    }


def _curves(records: Sequence[Record], grids: _Grids) -> dict[tuple[str, str], _Curve]:
    n = records[0].n
    clean = share_over_seeds([100 * record.clean.accuracy for record in records], n)
    curves: dict[tuple[str, str], _Curve] = {}
    measured = [_distances(record) for record in records]
    searched = {key for key in grids if all(key in found for found in measured)}
    for (name, norm, epsilon), values in sorted(attack_values(records).items(), key=lambda each: each[0][2]):
        if (name, norm) not in searched:
            curves.setdefault((name, norm), {0.0: clean})[epsilon] = share_over_seeds(values, n)
    for key in searched:
        curves[key] = {0.0: clean} | {
            float(epsilon): share_over_seeds([100 * float((found[key] > epsilon).mean()) for found in measured], n)
            for epsilon in grids[key]
        }
    return curves


def _draw_panel(axes: Axes, shown: FigureGroups, found: dict[str, _Curve], norm: str) -> None:
    show_grid(axes)
    for name, curve in found.items():
        size = 3 if len(curve) < _POINTS else 0
        draw_curve(axes, list(curve), list(curve.values()), shown.styles[name] | {"markersize": size})
    budgets = sorted({epsilon for curve in found.values() for epsilon in curve} - {0.0})
    if len(budgets) < _POINTS - 1 and budgets[-1] / budgets[0] > _WIDE:
        axes.set_xscale("symlog", linthresh=budgets[0])
    axes.minorticks_off()
    if len(budgets) < _POINTS - 1:
        axes.set_xticks([0, *budgets], ["0", *(write_epsilon(each, norm) for each in budgets)], rotation=45)
    axes.set_xlim(0, budgets[-1] * 1.02)
    percent_axis(axes, [end for curve in found.values() for each in curve.values() for end in each.ends])


def _say(key: tuple[str, str], found: dict[str, _Curve]) -> str:
    largest = {name: write_epsilon(max(curve), key[1]) for name, curve in found.items()}
    ends = [
        f"{name} from {curve[0.0].mean:.1f} to {list(curve.values())[-1].mean:.1f} % at ε = {largest[name]}"
        for name, curve in found.items()
    ]
    return f"Under {name_attack(*key)} accuracy falls: {'; '.join(ends)}."


def _invalid(shown: FigureGroups) -> str:
    wrong = {
        f"{name}, {name_attack(entry.name, entry.norm)} at ε = {write_epsilon(entry.epsilon, entry.norm)}": None
        for name, records in shown.groups.items()
        for record in records
        for entry in record.attacks
        if not entry.valid
    }
    return f" Left out, as they failed a check: {'; '.join(wrong)}." if wrong else ""


def draw_adversarial(shown: FigureGroups) -> Drawing:
    """Return adversarial examples: the clean image, the perturbation and the result, with the predictions."""
    galleries = {name: found for name, records in shown.groups.items() if (found := _galleries(records[0]))}
    if not galleries:
        raise NotDrawnError("the records hold no adversarial examples (no attack succeeded, or the records are older)")
    name, first = next(iter(galleries.items()))
    attack = min(first, key=lambda each: shown.groups[name][0].attacks[first[each]].robust_accuracy)
    chosen = [(name, found[attack]) for name, found in galleries.items() if attack in found][:_KINDS]
    figure, axes = new_figure(2.42 * len(chosen) + 0.1, 0.025, nrows=3 * len(chosen), ncols=_COLUMNS)
    said = [
        _draw_kind(axes[3 * row : 3 * row + 3], name, shown.groups[name][0], place)
        for row, (name, place) in enumerate(chosen)
    ]
    caption = shown.caption(
        f"The first adversarial examples of {name_attack(*attack)} at the largest ε, for the first network of each "
        "kind: the image with its true class, the perturbation multiplied by the factor beside it (grey: no change), "
        "and the adversarial example with the predicted class. Only images that no smaller ε broke are attacked at it."
    )
    return Drawing("adversarial-images", "Adversarial examples", caption, " ".join(said), figure)


def _galleries(record: Record) -> dict[tuple[str, str], int]:
    """Return (attack, norm) → index of the entry that has images, of attacks that passed their checks."""
    return {
        (entry.name, entry.norm): place
        for place, entry in enumerate(record.attacks)
        if entry.gallery and entry.valid and record.samples is not None
    }


def _draw_kind(axes: NDArray[Any], name: str, record: Record, place: int) -> str:
    samples: dict[str, Any] = record.samples or {}
    entry: AttackEntry = record.attacks[place]
    clean = samples[f"gallery{place}_clean"][:_COLUMNS].astype(np.float64) / 255
    added = samples[f"gallery{place}_perturbation"][:_COLUMNS].astype(np.float64)
    positions = {int(index): at for at, index in enumerate(samples["index"])}
    at = [positions[int(index)] for index in samples[f"gallery{place}_index"][: len(clean)]]
    labels, found = samples["label"][at], samples[f"attack{place}_prediction"][at]
    factor = 10 ** max(0, math.floor(math.log10(0.5 / max(float(np.abs(added).max()), 1e-6))))
    for column in range(_COLUMNS):
        for row in range(3):
            hide_axes(axes[row, column])
        if column < len(clean):
            show_image(axes[0, column], clean[column])
            show_image(axes[1, column], np.clip(0.5 + factor * added[column], 0, 1))
            show_image(axes[2, column], np.clip(clean[column] + added[column], 0, 1))
            axes[0, column].set_xlabel(_class(record, labels[column]), fontsize=6.2, labelpad=1.5)
            axes[2, column].set_xlabel(f"→ {_class(record, found[column])}", fontsize=6.2, labelpad=1.5)
    for row, text in enumerate(
        (name, f"perturbation × {factor:g}", f"{entry.name}, ε = {write_epsilon(entry.epsilon, entry.norm)}")
    ):
        axes[row, 0].set_ylabel(shorten(text, 20), fontsize=6.2, fontweight="bold" if row == 0 else "normal")
    pairs = ", ".join(f"{_class(record, a)} as {_class(record, b)}" for a, b in zip(labels, found, strict=True))
    return f"{name} under {entry.name} takes {pairs}."


def _class(record: Record, label: int) -> str:
    return shorten(record.classes[label], 14) if label < len(record.classes) else str(label)
