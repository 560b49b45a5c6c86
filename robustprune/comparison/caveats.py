"""What keeps a comparison from being what one may take it for, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from robustprune.comparison.failures import Failures, spare_trainings
from robustprune.comparison.findings import ComparisonRow
from robustprune.comparison.sides import Network, Sides
from robustprune.metrics.seeds import LEAST_SEEDS

_SIZES = {"filters": "filters", "macs": "MACs", "parameters": "parameters"}
_MATCHED = 0.05
"""Up to so far apart, as a share, two sizes are about the same."""


def find_caveats(
    compared: Sequence[Sides], rows: Sequence[ComparisonRow], failures: Iterable[Failures]
) -> Iterator[str]:
    """Yield a sentence for each."""
    for each in failures:
        yield from _about_failures(each)
    for sides in compared:
        name, own, reference = sides.candidate, sides.own, sides.reference
        fewest = min(len(own), len(reference))
        if fewest < LEAST_SEEDS:
            yield (
                f"{name}: from {fewest} seed{'s' * (fewest > 1)} verdicts speak of these networks, not of the method; "
                f"{LEAST_SEEDS} seeds are the fewest for that"
            )
        whom = "the dense network" if sides.against == "dense" else sides.against
        if not sides.pairs:
            yield (
                f"{name}: its seeds ({_seeds(own)}) are not those of {whom} ({_seeds(reference)}), so networks are "
                "compared as two groups and not in pairs"
            )
        yield from _about_size(sides)
        for setting, one, other in _differing_recipe(reference, own):
            yield f"{name}: trained with {setting.replace('_', ' ')} {other}, {whom} with {one}"
    invalid = [f"{row.candidate}: {row.label}" for row in rows if row.reason and row.reason.startswith("invalid")]
    if invalid:
        yield f"numbers that failed a check are not compared ({'; '.join(invalid)})"


def _about_failures(found: Failures) -> Iterator[str]:
    if found:
        follows = ""
        if found.n_networks >= LEAST_SEEDS:
            is_spared = len(found.seeds) <= spare_trainings(found.n_networks)
            basis = "rest on the interquartile mean of the seeds" if is_spared else "are not given"
            follows = f"; so verdicts {basis}, and no method that fails is called better, equivalent or no worse"
        yield f"{found.group}: {found.text}{follows}"
    if found.odd:
        yield (
            f"{found.group}: far below the others ended {', '.join(found.odd)}; a mean says little of networks some of "
            "which are unlike the rest"
        )


def _about_size(sides: Sides) -> Iterator[str]:
    """Yield what is to be said of a layer and a filter ticket neither of whose sizes is about the same."""
    models = [[network.record.model for network in side] for side in (sides.reference, sides.own)]
    methods = [{model.plan.get("method") for model in side} for side in models]
    if {"layer"} not in methods or {"filter"} not in methods:
        return
    gaps = {}
    for size, name in _SIZES.items():
        reference, own = (np.mean([getattr(model, size) for model in side]) for side in models)
        gaps[name] = float(own / reference - 1)
    if min(map(abs, gaps.values())) > _MATCHED:
        text = ", ".join(
            f"{100 * abs(gap):.0f} % {'more' if gap > 0 else 'fewer'} {name}" for name, gap in gaps.items()
        )
        yield (
            f"{sides.candidate}: has {text} than {sides.against}; the paper's Table 3 compares layer and filter "
            "tickets of one size, as `robustprune prune --method filter --match LAYER.pt` makes them"
        )


def _differing_recipe(dense: Sequence[Network], own: Sequence[Network]) -> Iterator[tuple[str, str, str]]:
    """Yield settings of training that differ, with both sides' values, where all networks know theirs."""
    sides = [[network.record.model.training.get("recipe") or {} for network in side] for side in (dense, own)]
    recipes = [*sides[0], *sides[1]]
    for name in dict.fromkeys(name for recipe in recipes for name in recipe) if all(recipes) else ():
        one, other = (", ".join(sorted({str(recipe.get(name, "the default")) for recipe in side})) for side in sides)
        if one != other:
            yield name, one, other


def _seeds(networks: Sequence[Network]) -> str:
    return ", ".join("unknown" if network.seed is None else str(network.seed) for network in networks)
