"""Comparisons in several settings (image sets, architectures or both), and the mean over the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from robustprune.comparison.compared_networks import Network, refuse_duplicates
from robustprune.comparison.comparison_result import Comparison
from robustprune.comparison.comparison_row import ComparisonRow, correct_p_values
from robustprune.comparison.failures import join_failures
from robustprune.comparison.verdict import judge_estimate
from robustprune.errors import ComparisonError
from robustprune.metrics.pooled import LEAST_SETTINGS, Heterogeneity, pool_settings
from robustprune.metrics.seeds import CrossedDifference
from robustprune.records import Record
from robustprune.records.tidy import GROUPS

_FACTS: dict[str, Callable[[Record], str]] = {
    "architecture": lambda record: record.model.architecture,
    "dataset": lambda record: record.dataset,
}
_Settings = dict[str, dict[str, list[Network]]]


def split_settings(groups: Mapping[str, Sequence[Network]], compared: Sequence[tuple[str, str]]) -> _Settings:
    """Return the networks of each group in each setting.

    A setting is what differs within a group: image set, architecture, or both. A candidate with one architecture, other
    than that of the dense network, makes no further setting.

    Raises:
        ComparisonError: A network is given twice, a setting has two networks of one seed, or two groups that are to be
            compared have fewer than two settings in common.
    """
    told = [read for read in _FACTS.values() if any(len({read(n.record) for n in own}) > 1 for own in groups.values())]
    found: _Settings = {}
    for group, networks in groups.items():
        for network in networks:
            name = " on ".join(read(network.record) for read in told)
            found.setdefault(name, {}).setdefault(group, []).append(network)
    for own in found.values():
        for networks in own.values():
            refuse_duplicates(networks)
    for pair in compared if told else ():
        common = [name for name, own in found.items() if {*pair} <= {*own}]
        if len(common) < 2:
            places = "; ".join(f"{group}: {', '.join(n for n in sorted(found) if group in found[n])}" for group in pair)
            shared = f"only {common[0]}" if common else "none"
            raise ComparisonError(
                f"these records cannot be compared: they are of several settings, and {pair[0]} and {pair[1]} have "
                f"{shared} in common ({places}); give records of both for each setting"
            )
    return dict(sorted(found.items()))


def pool(found: Mapping[str, Comparison]) -> Comparison:
    """Return the mean over settings, from the comparison in each."""
    first = next(iter(found.values()))
    failures = tuple(join_failures([each.failures for each in found.values()], first.confidence))
    failed = {each.group for each in failures if each}
    alike: dict[tuple[str, str, str], dict[str, ComparisonRow]] = {}
    for name, comparison in found.items():
        for row in comparison.rows:
            alike.setdefault((row.candidate, row.against, row.metric), {})[name] = row
    pairs, groups = list(dict.fromkeys(key[:2] for key in alike)), list(GROUPS)
    ordered = sorted(alike.items(), key=lambda item: (pairs.index(item[0][:2]), groups.index(_any(item[1]).group)))
    rows = correct_p_values([_pool_rows(own, len(found), first.confidence, failed) for _, own in ordered])
    return replace(
        first,
        rows=rows,
        limitations=tuple(dict.fromkeys([*_limitations_of_mean(found, ordered), *_limitations_of_settings(found)])),
        failures=failures,
        settings=dict(found),
    )


def _any(rows: Mapping[str, ComparisonRow]) -> ComparisonRow:
    return next(iter(rows.values()))


def _pool_rows(
    found: Mapping[str, ComparisonRow], n_settings: int, confidence: float, failed: set[str]
) -> ComparisonRow:
    """Return the mean row of a metric, without ``p_adjusted``; ``failed`` are the groups with failed trainings."""
    rows, first = list(found.values()), _any(found)
    about: dict[str, Any] = {
        **{name: getattr(first, name) for name in ("candidate", "against", "metric", "label", "group", "unit")},
        "higher_is_better": first.higher_is_better,
        "n_seeds": min(row.n_seeds for row in rows),
        "seeds_paired": all(row.seeds_paired for row in rows),
        "statement": "settings",
    }
    if first.group == "cost":
        saved = [row.saved_percent for row in rows if row.saved_percent is not None]
        return ComparisonRow(**about, saved_percent=float(np.mean(saved)) if saved else None, reason=first.reason)
    judged = [row for row in rows if row.verdict is not None]
    if len(judged) < 2:
        return ComparisonRow(**about, reason=f"compared in {len(judged)} of {n_settings} settings")
    # The middle of the interval: for the calibration error it is free of the bias of the difference.
    middles = np.array([np.mean(row.interval or 0.0) for row in judged])
    variances = np.array([row.standard_error or 0.0 for row in judged]) ** 2
    freedoms = np.array([row.freedom or 1.0 for row in judged])
    estimate, heterogeneity = pool_settings(middles, variances, freedoms, confidence)
    # The root mean square, where ξ is one standard deviation in each setting.
    margin = float(np.sqrt(np.mean([(row.tolerance or 0.0) ** 2 for row in judged])))
    for name in ("reference", "value", "difference"):
        about[name] = float(np.mean([getattr(row, name) for row in judged]))
    if any(row.over_seeds != "mean" for row in judged):
        about["over_seeds"] = "interquartile mean"
    about |= judge_pooled(
        (estimate, heterogeneity),
        margin,
        confidence,
        higher_is_better=first.higher_is_better,
        has_failures=first.candidate in failed,
    )
    return ComparisonRow(**about, heterogeneity=heterogeneity, paired=True)


def judge_pooled(
    found: tuple[CrossedDifference, Heterogeneity],
    tolerance: float,
    confidence: float,
    *,
    higher_is_better: bool = True,
    has_failures: bool = False,
) -> dict[str, Any]:
    """Return the fields of a row that a mean difference over settings decides.

    By chance, settings may agree more closely than the noise of seeds and images lets one expect. The interval over
    settings, right in 95 % of all cases, is mostly wrong in these, so that of seeds and images takes its place.
    """
    own, within = (
        judge_estimate(each, tolerance, confidence, higher_is_better=higher_is_better, has_failures=has_failures)
        for each in (found[0], found[1].within)
    )
    is_wider = within["interval"][1] > own["interval"][1]  # both have the same middle
    return within if is_wider else own


def _limitations_of_mean(
    found: Mapping[str, Comparison], ordered: Sequence[tuple[tuple[str, str, str], Mapping[str, ComparisonRow]]]
) -> Iterator[str]:
    """Yield what limits a mean over settings."""
    if len(found) < LEAST_SETTINGS:
        yield (
            f"{len(found)} settings are few: Student's quantile with one degree of freedom is 12.7 at 95 %, so the "
            f"interval is wide; with {LEAST_SETTINGS} settings it is 4.3"
        )
    for (candidate, against, _), rows in ordered:
        absent = [name for name, comparison in found.items() if (candidate, against) not in comparison.pairs]
        if absent:
            yield f"{candidate}: not compared with {against} on {', '.join(absent)}, where records are missing"
        settings = {end: [name for name, row in rows.items() if row.verdict == end] for end in ("better", "worse")}
        if all(settings.values()):
            better, worse = (", ".join(names) for names in settings.values())
            yield (
                f"{candidate}: {_any(rows).label} is better on {better} and worse on {worse}; the mean over settings "
                "describes neither"
            )


def _limitations_of_settings(found: Mapping[str, Comparison]) -> Iterator[str]:
    """Yield the limitations of each setting, those of some settings after their names."""
    places: dict[str, list[str]] = {}
    for name, comparison in found.items():
        for limitation in comparison.limitations:
            places.setdefault(limitation, []).append(name)
    for limitation, names in places.items():
        yield limitation if len(names) == len(found) else f"{', '.join(names)}: {limitation}"
