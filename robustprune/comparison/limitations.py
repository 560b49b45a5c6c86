"""What limits the verdicts of a comparison, in words: each limitation once, with the candidates that it concerns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set

import numpy as np

from robustprune.attacks.norms import write_budget
from robustprune.comparison.compared_networks import Network
from robustprune.comparison.comparison_row import ComparisonRow
from robustprune.comparison.failures import Failures, spare_trainings
from robustprune.comparison.pairing import Pairing
from robustprune.metrics.seeds import LEAST_SEEDS

_SIZES = {"filters": "filters", "macs": "MACs", "parameters": "parameters"}
_MATCHED = 0.05
"""Largest relative difference of two sizes that count as equal."""
_Named = tuple[str, str]
"""Name of the networks that a limitation concerns, and its text."""


def find_limitations(
    pairings: Sequence[Pairing], rows: Sequence[ComparisonRow], failures: Iterable[Failures]
) -> tuple[str, ...]:
    """Return the limitations of a comparison; candidates that share one are named together."""
    found: list[_Named] = []
    for each in failures:
        found += _failed_trainings(each)
    for pairing in pairings:
        found += _few_seeds(pairing)
    found += _small_samples(rows)
    for pairing in pairings:
        found += [*_unpaired(pairing), *_unequal_size(pairing), *_unequal_training(pairing), *_sampled(pairing)]
    found += _failed_checks(rows)
    return tuple(_join_names(found, {pairing.candidate for pairing in pairings}))


def _join_names(found: Iterable[_Named], candidates: Set[str]) -> Iterator[str]:
    """Yield each text once, after the names that it was found for."""
    names: dict[str, dict[str, None]] = {}
    for name, text in found:
        names.setdefault(text, {})[name] = None
    for text, own in names.items():
        yield f"{'All candidates' if len(own) > 1 and own.keys() == candidates else ', '.join(own)}: {text}"


def _failed_trainings(found: Failures) -> Iterator[_Named]:
    if found:
        follows = ""
        if found.n_networks >= LEAST_SEEDS:
            is_spared = len(found.seeds) <= spare_trainings(found.n_networks)
            basis = "rest on the interquartile mean of the seeds" if is_spared else "are not given"
            follows = f"; verdicts {basis}, and a method that fails is never better, equivalent or no worse"
        yield found.group, f"{found.text}{follows}"
    if found.odd:
        yield (
            found.group,
            f"outlier: {', '.join(found.odd)}, far below the other seeds; the mean describes these networks badly",
        )


def _few_seeds(pairing: Pairing) -> Iterator[_Named]:
    fewest = min(len(pairing.own), len(pairing.reference))
    if fewest < LEAST_SEEDS:
        yield (
            pairing.candidate,
            f"only {fewest} seed{'s' * (fewest > 1)}: verdicts hold for these networks, not for the method, for which "
            f"{LEAST_SEEDS} seeds or more are needed",
        )


def _small_samples(rows: Sequence[ComparisonRow]) -> Iterator[_Named]:
    """Yield candidates whose accuracy is too uncertain to be found equivalent, whatever the difference."""
    for row in rows:
        if row.metric == "accuracy" and row.bounds is not None and row.tolerance and row.n_samples:
            half = (row.bounds[1] - row.bounds[0]) / 2
            if half >= row.tolerance:
                seeds = f"{row.n_seeds} seed{'s' * (row.n_seeds > 1)}"
                yield (
                    row.candidate,
                    f"with {row.n_samples:,} images and {seeds}, accuracy is too uncertain to be found equivalent "
                    f"within ξ = {row.tolerance:.3g} pp; `robustprune power` says how many images and seeds are needed",
                )


def _unpaired(pairing: Pairing) -> Iterator[_Named]:
    if not pairing.pairs:
        yield (
            pairing.candidate,
            f"its seeds ({_seeds(pairing.own)}) are not those of {_reference(pairing)} ({_seeds(pairing.reference)}), "
            "so the networks are compared as two groups, not in pairs",
        )


def _unequal_size(pairing: Pairing) -> Iterator[_Named]:
    """Yield that a layer and a filter ticket agree in no size, so that it is not the comparison of Table 3."""
    models = [[network.record.model for network in group] for group in (pairing.reference, pairing.own)]
    methods = [{model.plan.get("method") for model in group} for group in models]
    if {"layer"} not in methods or {"filter"} not in methods:
        return
    gaps = {}
    for size, name in _SIZES.items():
        reference, own = (np.mean([getattr(model, size) for model in group]) for group in models)
        gaps[name] = float(own / reference - 1)
    if min(map(abs, gaps.values())) > _MATCHED:
        text = ", ".join(
            f"{100 * abs(gap):.0f} % {'more' if gap > 0 else 'fewer'} {name}" for name, gap in gaps.items()
        )
        yield (
            pairing.candidate,
            f"{text} than {pairing.against}; the paper's Table 3 compares layer and filter tickets of one size, as "
            "`robustprune prune --method filter --match LAYER.pt` makes them",
        )


def _unequal_training(pairing: Pairing) -> Iterator[_Named]:
    """Yield the training settings that differ, with the values of both, where all networks know theirs."""
    groups = [
        [network.record.model.training.get("recipe") or {} for network in group]
        for group in (pairing.reference, pairing.own)
    ]
    recipes = [*groups[0], *groups[1]]
    for name in dict.fromkeys(name for recipe in recipes for name in recipe) if all(recipes) else ():
        one, other = (", ".join(sorted({str(recipe.get(name, "the default")) for recipe in group})) for group in groups)
        if one != other:
            yield (
                pairing.candidate,
                f"trained with {name.replace('_', ' ')} {other}, {_reference(pairing)} with {one}",
            )


def _sampled(pairing: Pairing) -> Iterator[_Named]:
    """Yield the attacks that spared some survivors of their first phase, and by how much that may flatter a network."""
    most: dict[str, float] = {}
    for network in (*pairing.reference, *pairing.own):
        for entry in network.record.attacks:
            if entry.valid and entry.sampled is not None:
                name = f"{entry.name} {write_budget(entry.epsilon, entry.norm)}"
                most[name] = max(most.get(name, 0.0), 100 * (entry.robust_accuracy - entry.sampled.interval[0]))
    for name, points in most.items():
        if points > 0:
            yield (
                pairing.candidate,
                f"{name} attacked a sample of what its first phase left; attacking all of it (sample=all) may lower a "
                f"robust accuracy by up to {points:.1f} pp, which the intervals do not cover",
            )


def _failed_checks(rows: Sequence[ComparisonRow]) -> Iterator[_Named]:
    labels: dict[str, list[str]] = {}
    for row in rows:
        if row.reason and row.reason.startswith("invalid"):
            labels.setdefault(row.candidate, []).append(row.label)
    for candidate, own in labels.items():
        yield candidate, f"numbers that failed a check are not compared ({'; '.join(own)})"


def _reference(pairing: Pairing) -> str:
    return "the dense network" if pairing.against == "dense" else pairing.against


def _seeds(networks: Sequence[Network]) -> str:
    return ", ".join("unknown" if network.seed is None else str(network.seed) for network in networks)
