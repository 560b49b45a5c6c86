"""What a reader of a comparison has to know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from robustprune.comparison.estimate import LEAST_SEEDS
from robustprune.comparison.networks import Network
from robustprune.comparison.result import Row


def find_caveats(
    dense: Sequence[Network], candidates: Mapping[str, Sequence[Network]], rows: Sequence[Row]
) -> Iterator[str]:
    """Yield a sentence for each thing that keeps a comparison from being what one may take it for."""
    for name, own in candidates.items():
        fewest = min(len(own), len(dense))
        if fewest < LEAST_SEEDS:
            yield (
                f"{name}: from {fewest} seed{'s' * (fewest > 1)} verdicts speak of these networks, not of the method; "
                f"{LEAST_SEEDS} seeds are the fewest for that"
            )
        if not any(row.seeds_paired for row in rows if row.candidate == name):
            yield (
                f"{name}: its seeds ({_seeds(own)}) are not those of the dense network ({_seeds(dense)}), so networks "
                "are compared as two groups and not in pairs"
            )
        for setting, (one, other) in _differing_recipe(dense, own).items():
            yield f"{name}: trained with {setting.replace('_', ' ')} {other}, the dense network with {one}"
    invalid = [f"{row.candidate}: {row.label}" for row in rows if row.reason and row.reason.startswith("invalid")]
    if invalid:
        yield f"numbers that failed a check are not compared ({'; '.join(invalid)})"


def _differing_recipe(dense: Sequence[Network], own: Sequence[Network]) -> dict[str, tuple[str, str]]:
    """Return settings of training that differ, with both sides' values, where all networks know theirs."""
    if not all(network.recipe for network in (*dense, *own)):
        return {}
    found = {}
    for name in dict.fromkeys(name for network in (*dense, *own) for name in network.recipe):
        sides = [sorted({str(network.recipe.get(name)) for network in side}) for side in (dense, own)]
        if sides[0] != sides[1]:
            found[name] = (", ".join(sides[0]), ", ".join(sides[1]))
    return found


def _seeds(networks: Sequence[Network]) -> str:
    return ", ".join("unknown" if network.seed is None else str(network.seed) for network in networks)
