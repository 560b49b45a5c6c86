"""Compares candidates with a dense network, from records alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from robustprune.comparison.difference import estimate_difference, holm, judge, mcnemar
from robustprune.comparison.findings import Comparison, ComparisonRow, find_caveats, write_headline
from robustprune.comparison.from_record import COSTS
from robustprune.comparison.metric import POINTS, Floats, Metric, MetricValue
from robustprune.comparison.sides import Network, Sides, Source, differing, read_networks, require_one, settings_of
from robustprune.errors import ComparisonError
from robustprune.metrics.seeds import LEAST_SEEDS
from robustprune.records import Record
from robustprune.records.tidy import GROUPS
from robustprune.registry import suggest
from robustprune.runtime.work import Work, labelled, steps

DENSE = "dense"
_FACTS: dict[str, Callable[[Record], Any]] = {
    "dataset": lambda record: record.dataset,
    "split": lambda record: record.split,
    "number of samples": lambda record: record.n,
    "samples": lambda record: record.samples_sha256[:12],
}


def compare(
    dense: Source | Sequence[Source],
    candidates: Mapping[str, Source | Sequence[Source]],
    *,
    tolerance: float | str = 1.0,
    confidence: float = 0.95,
    metrics: Sequence[str] = (),
    resamples: int = 1000,
    seed: int = 0,
    work: Work = Work(),
) -> Comparison:
    """Compare candidates with a dense network, over seeds and sample by sample.

    Networks of one seed are compared in pairs where both sides have the same seeds. From three seeds on the
    statement is about the method, below about these networks.

    Args:
        dense: Records of the dense network, one for each seed: as returned by :func:`robustprune.evaluate`, their
            files, folders of them, or patterns.
        candidates: Name → records of a candidate.
        tolerance: ξ of eq. 1 in percentage points, or ``std`` for one standard deviation of the dense network over
            its seeds.
        confidence: Of the intervals.
        metrics: Compare only these: keys, what stands before the bracket of a key, or groups. All by default.
        resamples: How often samples are drawn for the calibration error; all else is no matter of chance.
        seed: Of these draws.
        work: Its progress is told of groups of records.

    Raises:
        ComparisonError: Records of other samples or settings, or nothing to compare.
        EvaluationError: A record cannot be read.
    """
    _check_arguments(candidates, tolerance, confidence, resamples)
    settings = {"resamples": resamples, "seed": seed}
    step = steps(labelled(work.progress, "comparing"), 1 + len(candidates))
    groups = {}
    for name, sources in {DENSE: dense, **candidates}.items():
        groups[name] = read_networks(name, sources, **settings)
        step()
    networks = [network for group in groups.values() for network in group]
    if isinstance(tolerance, str) and len(groups[DENSE]) < 2:
        raise ComparisonError(
            "a tolerance of one standard deviation takes dense networks of two seeds or more, there is one; give more "
            "records, or a tolerance in percentage points"
        )
    for fact, read in _FACTS.items():
        advice = "evaluate them with the same --dataset, --split and --limit (and --seed of it)"
        require_one(fact, networks, [read(network.record) for network in networks], advice)
    chosen = _choose(networks, metrics)
    for metric in chosen:
        having = [network for network in networks if metric in network.values and metric.group != "cost"]
        for name, values in settings_of(metric, having).items():
            advice = f"evaluate them alike, or compare only other metrics (--metric) than {metric.key}"
            require_one(f"{metric.key}: {name}", having, values, advice)
    rows = _rows(chosen, groups, tolerance, confidence)
    return Comparison(
        dense_name=DENSE,
        tolerance=tolerance,
        confidence=confidence,
        rows=rows,
        headline=write_headline(rows, tolerance),
        warnings=tuple(find_caveats(groups.pop(DENSE), groups, rows)),
    )


def _check_arguments(
    candidates: Mapping[str, object], tolerance: float | str, confidence: float, resamples: int
) -> None:
    if not candidates:
        raise ComparisonError(
            "there is no candidate to compare with the dense network; name one, as in layer=FILE.json"
        )
    if DENSE in candidates or not all(candidates):
        raise ComparisonError(f"a candidate needs a name, and one other than {DENSE!r}")
    if tolerance != "std" and (isinstance(tolerance, str) or not 0 <= tolerance < 100):
        raise ComparisonError(f"the tolerance is 'std' or percentage points from 0 to 100, got {tolerance!r}")
    if not 0.5 <= confidence < 1:
        raise ComparisonError(f"the confidence is from 0.5 to below 1, such as 0.95, got {confidence}")
    if resamples < 100:
        raise ComparisonError(f"a variance takes at least 100 resamples, got {resamples}")


def _choose(networks: Sequence[Network], wanted: Sequence[str]) -> list[Metric]:
    """Return the metrics that any network has, group by group, of those that are wanted."""
    found = dict.fromkeys(metric for network in networks for metric in network.values)
    groups, costs = list(GROUPS), list(COSTS)
    there = sorted(found, key=lambda m: (groups.index(m.group), costs.index(m) if m in COSTS else 0))
    names = {metric: (metric.key, metric.key.partition("[")[0], metric.group) for metric in there}
    for each in wanted:
        known = dict.fromkeys(name for own in names.values() for name in own)
        if each not in known:
            raise ComparisonError(
                f"no record has a metric {each!r}.{suggest(each, list(known))} There are: "
                f"{', '.join(metric.key for metric in there)}."
            )
    return [metric for metric in there if not wanted or set(names[metric]) & set(wanted)]


def _rows(
    metrics: Sequence[Metric], groups: Mapping[str, list[Network]], tolerance: float | str, confidence: float
) -> tuple[ComparisonRow, ...]:
    rows = []
    for name, own in groups.items():
        if name == DENSE:
            continue
        sides = Sides(name, groups[DENSE], own)
        # What other candidates alone were measured by is no matter of this one.
        mine = [metric for metric in metrics if any(metric in network.values for network in sides.networks)]
        rows += [_row(metric, sides, tolerance, confidence) for metric in mine]
    tested = [place for place, row in enumerate(rows) if row.p_value is not None]
    for place, adjusted in zip(tested, holm([rows[place].p_value or 0.0 for place in tested]), strict=True):
        rows[place] = replace(rows[place], p_adjusted=adjusted)
    return tuple(rows)


def _row(metric: Metric, sides: Sides, tolerance: float | str, confidence: float) -> ComparisonRow:
    """Return the row of a metric, without ``p_adjusted``."""
    about: dict[str, Any] = {
        "candidate": sides.candidate,
        "metric": metric.key,
        "label": metric.label,
        "group": metric.group,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "n_seeds": min(len(sides.dense), len(sides.own)),
        "seeds_paired": bool(sides.pairs),
    }
    problem = _problem(metric, sides)
    if problem is not None:
        return ComparisonRow(**about, reason=problem)
    dense, own = ([network.values[metric] for network in side] for side in (sides.dense, sides.own))
    values = [np.array([each.value for each in side]) for side in (dense, own)]
    about |= {
        "dense": float(values[0].mean()),
        "value": float(values[1].mean()),
        "difference": float(values[1].mean() - values[0].mean()),
        "n_samples": dense[0].n_samples,
        "per_seed": tuple(_per_seed(metric, sides)),
    }
    if metric.group == "cost":
        return ComparisonRow(**about, **_of_cost(dense, own, confidence, paired=bool(sides.pairs)))
    # One pair may have been evaluated with another seed than the next.
    together: list[Sequence[Network]] = [*sides.pairs] or [sides.networks]
    for compared in together:
        seeds = [network.values[metric].seed for network in compared]
        require_one(f"{metric.key}: seed of the evaluation", compared, seeds, "evaluate them with the same --seed")
    bare = [network for network in sides.networks if not network.values[metric].varies]
    if bare:
        return ComparisonRow(**about, reason=f"outcomes per sample are not on file for {sides.name(bare)}")
    estimate = estimate_difference(dense, own, paired=bool(sides.pairs))
    interval = estimate.interval(confidence)
    # McNemar's p-value, which is exact, for one pair of networks.
    exact = about["per_seed"][0]["p"] if len(about["per_seed"]) == 1 else None
    margin = _margin(metric, values[0], tolerance)
    return ComparisonRow(
        **about,
        interval=interval,
        p_value=estimate.p_value if exact is None else float(exact),
        tolerance=margin,
        paired=True,
        statement="method" if estimate.of_method else "networks",
        verdict=judge(interval, margin, higher_is_better=metric.higher_is_better),
    )


def _margin(metric: Metric, dense: Floats, tolerance: float | str) -> float:
    """Return ξ in the unit of a metric.

    A tolerance in percentage points is one of shares. Proper scores, NLL and Brier, are none: their tolerance is 0,
    so that they are better, losing or undecided. A standard deviation has the metric's own unit.
    """
    if isinstance(tolerance, str):
        return float(np.std(dense, ddof=1))
    return tolerance if metric.unit == POINTS else 0.0


def _problem(metric: Metric, sides: Sides) -> str | None:
    """Return why a metric is not compared."""
    lacking = [network for network in sides.networks if metric not in network.values]
    if lacking:
        return f"not on file for {sides.name(lacking)}"
    invalid = [network for network in sides.networks if network.values[metric].problem is not None]
    if invalid:
        return f"invalid for {sides.name(invalid)}: {invalid[0].values[metric].problem}"
    for name, values in settings_of(metric, sides.networks).items():
        if len(different := differing(values)) > 1:
            return f"{name.replace('_', ' ')} differs: {', '.join(str(values[place]) for place in different)}"
    return None


def _of_cost(
    dense: Sequence[MetricValue], own: Sequence[MetricValue], confidence: float, *, paired: bool
) -> dict[str, Any]:
    """Return what a row of a cost has beside its values: what is saved, and an interval over enough seeds."""
    values = [np.array([each.value for each in side]) for side in (dense, own)]
    found: dict[str, Any] = {"reason": "costs have no tolerance"}
    if values[0].mean() > 0:
        found["saved_percent"] = float(100 * (1 - values[1].mean() / values[0].mean()))
    if max(map(np.ptp, values)) > 0 and min(map(len, values)) >= LEAST_SEEDS:
        estimate = estimate_difference(dense, own, paired=paired)
        found |= {"interval": estimate.interval(confidence), "statement": "method"}
    return found


def _per_seed(metric: Metric, sides: Sides) -> list[dict[str, Any]]:
    if sides.pairs:
        return [_of_seed(dense.seed, dense.values[metric], own.values[metric]) for dense, own in sides.pairs]
    alone = [_of_seed(network.seed, network.values[metric], None) for network in sides.dense]
    return alone + [_of_seed(network.seed, None, network.values[metric]) for network in sides.own]


def _of_seed(seed: int | None, dense: MetricValue | None, own: MetricValue | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "seed": seed,
        "dense": None if dense is None else dense.value,
        "value": None if own is None else own.value,
        **dict.fromkeys(("difference", "b", "c", "p")),
    }
    if dense is not None and own is not None:
        found["difference"] = own.value - dense.value
        if dense.right is not None and own.right is not None:
            lost, gained = int((dense.right & ~own.right).sum()), int((own.right & ~dense.right).sum())
            found |= {"b": lost, "c": gained, "p": mcnemar(lost, gained)}
    return found
