"""Security curves: accuracy against the budget of an attack."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from robustprune.comparison.metric import write_epsilon
from robustprune.records import Record
from robustprune.report.drawing import Drawing, LeftOutError
from robustprune.report.figures.labels import label_ends
from robustprune.report.figures.reading import (
    Estimate,
    Shown,
    attack_values,
    estimate_share,
    interval_note,
    name_attack,
)
from robustprune.report.figures.style import new_figure, percent_axis, series_style, show_grid
from robustprune.report.tables import Table, Value

_PANELS = 4
_WIDE = 16  # budgets that far apart do not fit on a linear axis
_LABEL = 0.16  # of the width of a panel, what a label such as 16/255 takes


def draw_security_curves(shown: Shown) -> Drawing:
    """Return a panel for each attack, from clean accuracy at ε = 0 to the largest budget."""
    curves = {name: _curves(records) for name, records in shown.groups.items()}
    attacks = [key for key in curves[shown.reference] if len(curves[shown.reference][key]) > 1]
    if not attacks:
        raise LeftOutError("no attack was run whose checks passed")
    steps = {key: len(curves[shown.reference][key]) for key in attacks}
    drawn = sorted(attacks, key=lambda key: (-steps[key], attacks.index(key)))[:_PANELS]
    columns = min(len(drawn), 2)
    rows = -(-len(drawn) // columns)
    figure, grid = new_figure(2.5 * rows + 0.1, ncols=columns, nrows=rows)
    panels = list(grid.flat)
    for axes in panels[len(drawn) :]:
        axes.set_visible(False)
    findings, table = [], []
    for axes, key in zip(panels, drawn, strict=False):
        found = {name: own[key] for name, own in curves.items() if len(own.get(key, {})) > 1}
        _draw_panel(axes, shown, found, last=len(drawn) == 1 or panels.index(axes) % columns == columns - 1)
        axes.set_title(name_attack(*key))
        axes.set_xlabel("budget ε")
        findings.append(_say(name_attack(*key), found))
        table += [
            [name, name_attack(*key), epsilon, each.mean, each.low, each.high]
            for name, curve in found.items()
            for epsilon, each in curve.items()
        ]
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy (%)")
    invalid = _invalid(shown)
    caption = (
        "Accuracy under attack against the largest change of a pixel that is allowed; ε = 0 is without attack. Bands: "
        f"{interval_note(shown.groups)}. {shown.seeds}, "
        f"{shown.groups[shown.reference][0].n:,} images. {shown.note}{invalid}"
    ).strip()
    if any(norm != "linf" for _, norm in drawn):
        caption = caption.replace("the largest change of a pixel that is allowed", "how much an image may be changed")
    columns_ = ("network", "attack", "ε", "accuracy (%)", "low (%)", "high (%)")
    data = Table("Accuracy under attack", columns_, table)
    return Drawing("security-curves", "Accuracy under attack", caption, " ".join(findings), figure, data)


_Curve = dict[float, Estimate]


def _curves(records: Sequence[Record]) -> dict[tuple[str, str], _Curve]:
    n = records[0].n
    clean = estimate_share([100 * record.clean.accuracy for record in records], n)
    curves: dict[tuple[str, str], _Curve] = {}
    for (name, norm, epsilon), values in sorted(attack_values(records).items(), key=lambda each: each[0][2]):
        curves.setdefault((name, norm), {0.0: clean})[epsilon] = estimate_share(values, n)
    return curves


def _draw_panel(axes: Axes, shown: Shown, found: dict[str, _Curve], *, last: bool) -> None:
    show_grid(axes)
    for name, curve in found.items():
        style = series_style(shown.places[name])
        axes.plot(list(curve), [each.mean for each in curve.values()], **style, markersize=3)
        low, high = zip(*(each.ends for each in curve.values()), strict=True)
        axes.fill_between(list(curve), low, high, color=style["color"], alpha=0.13, linewidth=0)
    budgets = sorted({epsilon for curve in found.values() for epsilon in curve} - {0.0})
    if budgets[-1] / budgets[0] > _WIDE:
        axes.set_xscale("symlog", linthresh=budgets[0])
    axes.minorticks_off()
    axes.set_xticks([0, *budgets], ["0", *map(write_epsilon, budgets)])
    _thin_labels(axes, [0, *budgets])
    axes.set_xlim(0, budgets[-1] * 1.02)
    percent_axis(axes, [end for curve in found.values() for each in curve.values() for end in each.ends])
    if last:
        ends = [
            (list(curve.values())[-1].mean, name, series_style(shown.places[name])) for name, curve in found.items()
        ]
        label_ends(axes, ends)


def _thin_labels(axes: Axes, ticks: Sequence[float]) -> None:
    """Leave out labels that would touch the one before."""
    places = [float(axes.transScale.transform((tick, 1))[0]) for tick in ticks]
    span, last = places[-1] - places[0], -np.inf
    for label, place in zip(axes.get_xticklabels(), places, strict=True):
        if place - last < _LABEL * span:
            label.set_visible(False)
        else:
            last = place


def _say(attack: str, found: dict[str, _Curve]) -> str:
    ends = [
        f"{name} from {curve[0.0].mean:.1f} to {list(curve.values())[-1].mean:.1f} % at ε = {write_epsilon(max(curve))}"
        for name, curve in found.items()
    ]
    return f"Under {attack} accuracy falls: {'; '.join(ends)}."


def _invalid(shown: Shown) -> str:
    wrong: dict[str, list[Value]] = {}
    for name, records in shown.groups.items():
        for entry in (entry for record in records for entry in record.attacks if not entry.valid):
            wrong.setdefault(f"{name}, {name_attack(entry.name, entry.norm)}", []).append(write_epsilon(entry.epsilon))
    if not wrong:
        return ""
    listed = "; ".join(f"{what} at ε = {', '.join(dict.fromkeys(map(str, e)))}" for what, e in wrong.items())
    return f" Numbers that failed a check are left out: {listed}."
