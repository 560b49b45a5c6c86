"""Compares candidates with a dense network, or with one another, by their records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from robustprune.comparison.compared_networks import Network, Source, read_networks
from robustprune.comparison.comparison_result import Comparison
from robustprune.comparison.comparison_row import ComparisonRow, correct_p_values
from robustprune.comparison.difference import estimate_difference, mcnemar
from robustprune.comparison.failures import Failures, find_failures, spare_trainings
from robustprune.comparison.limitations import find_limitations
from robustprune.comparison.metric import Floats, Metric, MetricValue
from robustprune.comparison.pairing import Pairing, distinct_places, measurement_settings, require_equal
from robustprune.comparison.pooling import pool, split_settings
from robustprune.comparison.record_metrics import COSTS
from robustprune.comparison.verdict import TOLERANCES, Tolerance, judge_estimate, margin, read_tolerance
from robustprune.errors import ComparisonError
from robustprune.metrics.seeds import LEAST_SEEDS, interquartile_mean
from robustprune.metrics.superiority import chance_to_be_ahead
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


@dataclass(frozen=True)
class _Conditions:
    """What verdicts depend on beside the values: ξ of each kind, confidence, and the failed trainings of each group."""

    tolerances: Mapping[str, float | str]
    confidence: float
    failures: Mapping[str, Failures]


def compare(
    dense: Source | Sequence[Source] | None,
    candidates: Mapping[str, Source | Sequence[Source]],
    *,
    against: str = DENSE,
    all_pairs: bool = False,
    tolerance: Tolerance = TOLERANCES,
    confidence: float = 0.95,
    metrics: Sequence[str] = (),
    resamples: int = 1000,
    seed: int = 0,
    work: Work = Work(),
) -> Comparison:
    """Compare candidates with a dense network, over seeds and sample by sample.

    Networks are compared in pairs of one seed where both groups have the same seeds. From three seeds on verdicts are
    on the method, with fewer on these networks. Where the records of a group are of several image sets or
    architectures (settings), networks are compared in each, and the rows are means over the settings.

    Args:
        dense: Records of the dense network, one for each seed: as :func:`robustprune.evaluate` returns them, their
            files, folders or patterns. None to compare candidates with one another.
        candidates: Name → records of a candidate.
        against: Name of the group that all others are compared with.
        all_pairs: Compare each group with each, in place of all with one.
        tolerance: ξ of eq. 1 in percentage points, or ``std`` for one standard deviation of the dense network over
            its seeds; or a mapping with either for kinds of metrics, such as ``{"accuracy": 0.5, "auroc": "std"}``.
        confidence: Confidence level of the intervals, and of each of the one-sided tests of a verdict.
        metrics: Compare only these: keys, kinds (the part of a key before the bracket), or groups. All by default.
        resamples: Number of bootstrap samples for the calibration error; everything else is computed exactly.
        seed: Seed of the bootstrap.
        work: Reports progress, one step for each group of records.

    Raises:
        ComparisonError: Records of one image set are of different samples or were measured differently, or there is
            nothing to compare.
        EvaluationError: A record cannot be read.
    """
    if dense is not None and DENSE in candidates:
        raise ComparisonError(f"two groups are called {DENSE!r}; give the candidate another name")
    given = ({} if dense is None else {DENSE: dense}) | dict(candidates)
    how: dict[str, Any] = {"tolerance": tolerance, "confidence": confidence, "metrics": metrics, "work": work}
    found = compare_pairs(given, _pairs(given, against, all_pairs), resamples=resamples, seed=seed, **how)
    if all_pairs:
        return found
    settings = {name: replace(each, against=against) for name, each in found.settings.items()}
    return replace(found, against=against, settings=settings)


def compare_pairs(
    given: Mapping[str, Source | Sequence[Source]],
    compared: Sequence[tuple[str, str]],
    *,
    tolerance: Tolerance = TOLERANCES,
    confidence: float = 0.95,
    metrics: Sequence[str] = (),
    resamples: int = 1000,
    seed: int = 0,
    work: Work = Work(),
) -> Comparison:
    """Compare named groups of networks, pair by pair: the name of a reference, and that of a candidate.

    Groups are name → records. Records, all other arguments and errors are as for :func:`compare`. Holm's correction of
    the p-values is for all pairs together.
    """
    _check_statistics(confidence, resamples)
    tolerances = read_tolerance(tolerance)
    settings = {"resamples": resamples, "seed": seed}
    step = steps(labelled(work.progress, "comparing"), len(given))
    groups = {}
    for name, sources in given.items():
        groups[name] = read_networks(name, sources, **settings)
        step()
    chosen = _choose([network for group in groups.values() for network in group], metrics)
    asked = {"against": None, "tolerances": tolerances, "confidence": confidence}
    found = {
        name: _compare_setting(own, [pair for pair in compared if {*pair} <= {*own}], chosen, asked)
        for name, own in split_settings(groups, compared).items()
    }
    return pool(found) if len(found) > 1 else next(iter(found.values()))


def _compare_setting(
    groups: Mapping[str, Sequence[Network]],
    compared: Sequence[tuple[str, str]],
    chosen: Sequence[Metric],
    asked: Mapping[str, Any],
) -> Comparison:
    """Compare the networks of one setting, all evaluated on the same samples."""
    tolerances, confidence = asked["tolerances"], asked["confidence"]
    networks = [network for group in groups.values() for network in group]
    for reference, _ in compared if "std" in tolerances.values() else ():
        if len(groups[reference]) < 2:
            raise ComparisonError(
                f"the tolerance 'std' takes two seeds or more of {reference}, there is one; give more records, or a "
                "tolerance in percentage points"
            )
    for fact, read in _FACTS.items():
        advice = "evaluate them with the same --dataset, --split and --limit (and --seed of it)"
        require_equal(fact, networks, [read(network.record) for network in networks], advice)
    for metric in chosen:
        having = [network for network in networks if metric in network.values and metric.group != "cost"]
        for name, values in measurement_settings(metric, having).items():
            advice = f"evaluate them alike, or compare only other metrics (--metric) than {metric.key}"
            require_equal(f"{metric.key}: {name}", having, values, advice)
    failures = {name: find_failures(name, own, confidence) for name, own in groups.items()}
    pairings = [Pairing(name, reference, groups[reference], groups[name]) for reference, name in compared]
    rows = _rows(chosen, pairings, _Conditions(tolerances, confidence, failures))
    return Comparison(
        **asked,
        rows=rows,
        limitations=find_limitations(pairings, rows, failures.values()),
        failures=tuple(failures.values()),
    )


def _pairs(given: Mapping[str, object], against: str, all_pairs: bool) -> list[tuple[str, str]]:
    """Return the names of each reference and candidate."""
    if not all(given):
        raise ComparisonError("a candidate needs a name, as in layer=FILE.json")
    if len(given) < 2:
        raise ComparisonError(
            "there is no candidate; name the dense network and a candidate, as in dense=FILE.json layer=FILE.json"
        )
    if all_pairs:
        return list(combinations(given, 2))
    if against not in given:
        raise ComparisonError(f"no group is called {against!r}.{suggest(against, list(given))}")
    return [(against, name) for name in given if name != against]


def _check_statistics(confidence: float, resamples: int) -> None:
    if not 0.5 <= confidence < 1:
        raise ComparisonError(f"the confidence must be at least 0.5 and below 1, such as 0.95, got {confidence}")
    if resamples < 100:
        raise ComparisonError(f"the bootstrap takes at least 100 resamples, got {resamples}")


def _choose(networks: Sequence[Network], wanted: Sequence[str]) -> list[Metric]:
    """Return the wanted metrics that at least one network has, group by group."""
    found = dict.fromkeys(metric for network in networks for metric in network.values)
    groups, costs = list(GROUPS), list(COSTS)
    there = sorted(found, key=lambda m: (groups.index(m.group), costs.index(m) if m in COSTS else 0))
    names = {metric: (metric.key, metric.kind, metric.group) for metric in there}
    for each in wanted:
        known = dict.fromkeys(name for own in names.values() for name in own)
        if each not in known:
            raise ComparisonError(
                f"no record has a metric {each!r}.{suggest(each, list(known))} There are: "
                f"{', '.join(metric.key for metric in there)}."
            )
    return [metric for metric in there if not wanted or set(names[metric]) & set(wanted)]


def _rows(metrics: Sequence[Metric], pairings: Sequence[Pairing], conditions: _Conditions) -> tuple[ComparisonRow, ...]:
    rows = []
    for pairing in pairings:
        # Not the metrics that only other candidates have.
        mine = [metric for metric in metrics if any(metric in network.values for network in pairing.networks)]
        rows += [_row(metric, pairing, conditions) for metric in mine]
    return correct_p_values(rows)


def _row(metric: Metric, pairing: Pairing, conditions: _Conditions) -> ComparisonRow:
    """Return the row of a metric, without ``p_adjusted``."""
    about: dict[str, Any] = {
        "candidate": pairing.candidate,
        "against": pairing.against,
        "metric": metric.key,
        "label": metric.label,
        "group": metric.group,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "n_seeds": min(len(pairing.reference), len(pairing.own)),
        "seeds_paired": bool(pairing.pairs),
    }
    problem = _problem(metric, pairing)
    if problem is not None:
        return ComparisonRow(**about, reason=problem)
    dense, own = ([network.values[metric] for network in side] for side in (pairing.reference, pairing.own))
    values = [np.array([each.value for each in side]) for side in (dense, own)]
    failed = [conditions.failures[name] for name in (pairing.against, pairing.candidate) if conditions.failures[name]]
    trim = bool(failed) and about["n_seeds"] >= LEAST_SEEDS and metric.group != "cost"
    means = [interquartile_mean(side) if trim else float(side.mean()) for side in values]
    about |= {
        "reference": means[0],
        "value": means[1],
        "difference": interquartile_mean(values[1] - values[0]) if trim and pairing.pairs else means[1] - means[0],
        "over_seeds": "interquartile mean" if trim else "mean",
        "n_samples": dense[0].n_samples,
        "per_seed": tuple(_per_seed(metric, pairing)),
    }
    if metric.group == "cost":
        return ComparisonRow(**about, **_of_cost(dense, own, conditions.confidence, paired=bool(pairing.pairs)))
    # One pair may have been evaluated with another seed than the next.
    together: list[Sequence[Network]] = [*pairing.pairs] or [pairing.networks]
    for compared in together:
        seeds = [network.values[metric].seed for network in compared]
        require_equal(f"{metric.key}: seed of the evaluation", compared, seeds, "evaluate them with the same --seed")
    bare = [network for network in pairing.networks if not network.values[metric].varies]
    if bare:
        return ComparisonRow(**about, reason=f"no outcomes per sample (samples.npz) for {pairing.name(bare)}")
    if trim and any(len(each.seeds) > spare_trainings(each.n_networks) for each in failed):
        return ComparisonRow(**about, reason="; ".join(f"{each.group}: {each.text}" for each in failed))
    estimate = estimate_difference(dense, own, paired=bool(pairing.pairs), trim=trim)
    about |= judge_estimate(
        estimate,
        margin(conditions.tolerances[metric.kind], values[0]),
        conditions.confidence,
        higher_is_better=metric.higher_is_better,
        has_failures=bool(conditions.failures[pairing.candidate]),
    )
    about |= {"statement": "method" if estimate.of_method else "networks", "spreads": estimate.spreads}
    if len(about["per_seed"]) == 1 and about["per_seed"][0]["p"] is not None:
        about["p_value"] = about["per_seed"][0]["p"]  # McNemar's, which is exact
    chance = None if trim else _chance_to_be_better(metric, values, conditions.confidence, paired=bool(pairing.pairs))
    if chance is not None:
        about |= {"chance_better": chance[0], "chance_interval": chance[1]}
    return ComparisonRow(**about, paired=True)


def _chance_to_be_better(
    metric: Metric, values: Sequence[Floats], confidence: float, *, paired: bool
) -> tuple[float, tuple[float, float]] | None:
    sign = 1 if metric.higher_is_better else -1
    return chance_to_be_ahead(sign * values[0], sign * values[1], paired=paired, confidence=confidence)


def _problem(metric: Metric, pairing: Pairing) -> str | None:
    """Return why a metric cannot be compared, or None."""
    lacking = [network for network in pairing.networks if metric not in network.values]
    if lacking:
        return f"no value in the records of {pairing.name(lacking)}"
    invalid = [network for network in pairing.networks if network.values[metric].problem is not None]
    if invalid:
        return f"invalid for {pairing.name(invalid)}: {invalid[0].values[metric].problem}"
    for name, values in measurement_settings(metric, pairing.networks).items():
        if len(different := distinct_places(values)) > 1:
            return f"{name.replace('_', ' ')} differs: {', '.join(str(values[place]) for place in different)}"
    return None


def _of_cost(
    dense: Sequence[MetricValue], own: Sequence[MetricValue], confidence: float, *, paired: bool
) -> dict[str, Any]:
    """Return the share of a cost that is saved, and from three seeds on an interval of the difference."""
    values = [np.array([each.value for each in side]) for side in (dense, own)]
    found: dict[str, Any] = {"reason": "costs have no tolerance"}
    if values[0].mean() > 0:
        found["saved_percent"] = float(100 * (1 - values[1].mean() / values[0].mean()))
    if max(map(np.ptp, values)) > 0 and min(map(len, values)) >= LEAST_SEEDS:
        estimate = estimate_difference(dense, own, paired=paired)
        found |= {"interval": estimate.interval(confidence), "statement": "method"}
    return found


def _per_seed(metric: Metric, pairing: Pairing) -> list[dict[str, Any]]:
    if pairing.pairs:
        return [_of_seed(dense.seed, dense.values[metric], own.values[metric]) for dense, own in pairing.pairs]
    alone = [_of_seed(network.seed, network.values[metric], None) for network in pairing.reference]
    return alone + [_of_seed(network.seed, None, network.values[metric]) for network in pairing.own]


def _of_seed(seed: int | None, dense: MetricValue | None, own: MetricValue | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "seed": seed,
        "reference": None if dense is None else dense.value,
        "value": None if own is None else own.value,
        **dict.fromkeys(("difference", "b", "c", "p")),
    }
    if dense is not None and own is not None:
        found["difference"] = own.value - dense.value
        if dense.right is not None and own.right is not None:
            lost, gained = int((dense.right & ~own.right).sum()), int((own.right & ~dense.right).sum())
            found |= {"b": lost, "c": gained, "p": mcnemar(lost, gained)}
    return found
