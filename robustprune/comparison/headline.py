"""A comparison in sentences: the one that answers the question, and what a reader has to know beside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from robustprune.comparison.difference import VERDICTS
from robustprune.comparison.findings import ComparisonRow
from robustprune.comparison.metric import write_difference
from robustprune.comparison.sides import Network
from robustprune.metrics.seeds import LEAST_SEEDS

_ROBUST = ("robustness", "corruptions", "shift", "ood")
_MOST = 3  # candidates that a sentence can hold


def write_headline(rows: Sequence[ComparisonRow], tolerance: float | str) -> str:
    """Return the sentence: is a candidate as accurate, as robust, and cheaper?"""
    margin = "one standard deviation" if isinstance(tolerance, str) else f"{tolerance:g} pp"
    candidates = list(dict.fromkeys(row.candidate for row in rows))
    parts = [_about(name, [row for row in rows if row.candidate == name], margin) for name in candidates[:_MOST]]
    text = "; ".join(parts)
    if len(candidates) > _MOST:
        text += f"; {len(candidates) - _MOST} more in the table"
    judged = [row for row in rows if row.verdict]
    if judged and any(row.statement == "networks" for row in judged):
        fewest = min(row.n_seeds for row in judged)
        seeds = f"{fewest} seed" + "s" * (fewest > 1)
        text = f"Of these networks ({seeds}, so not of the method): {text}"
    return text[0].upper() + text[1:] + "."


def _about(name: str, rows: Sequence[ComparisonRow], margin: str) -> str:
    said = [_accuracy(row, margin) for row in rows if row.metric == "accuracy" and row.verdict]
    verdicts = [row.verdict for row in rows if row.group in _ROBUST and row.verdict]
    if verdicts:
        counts = [f"{verdict} in {verdicts.count(verdict)}" for verdict in VERDICTS if verdict in verdicts]
        measures = f"of {len(verdicts)} measures" if len(verdicts) > 1 else "measure"
        said.append(f"is {_join(counts)} {measures} of robustness")
    said += [_macs(row.saved_percent) for row in rows if row.metric == "macs" and row.saved_percent is not None]
    if not any(row.verdict for row in rows) and any(row.group != "cost" for row in rows):
        said.insert(0, "cannot be judged")
    elif any(row.metric == "accuracy" and row.verdict is None for row in rows):
        said.insert(0, "cannot be judged by its accuracy")
    return f"“{name}” {_join(said)}" if said else f"the figures of “{name}” are in the table"


def _join(texts: Sequence[str]) -> str:
    return " and ".join([*([", ".join(texts[:-1])] if len(texts) > 1 else []), texts[-1]])


def _macs(saved: float) -> str:
    much = f"{abs(saved):.1f} % {'fewer' if saved > 0 else 'more'}"
    return f"takes {'as many' if abs(saved) < 0.05 else much} MACs"


def _accuracy(row: ComparisonRow, margin: str) -> str:
    assert row.interval is not None
    low, high = (write_difference(end, row.unit) for end in row.interval)
    figures = f"({write_difference(row.difference, row.unit)} pp, {low} … {high})"
    return {
        "better": f"is more accurate than dense {figures}",
        "winning": f"is as accurate as dense within {margin} {figures}",
        "losing": f"is less accurate than dense by more than {margin} {figures}",
        "undecided": f"may or may not be as accurate as dense within {margin} {figures}",
    }[row.verdict or "undecided"]


def find_caveats(
    dense: Sequence[Network], candidates: Mapping[str, Sequence[Network]], rows: Sequence[ComparisonRow]
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
        for setting, one, other in _differing_recipe(dense, own):
            yield f"{name}: trained with {setting.replace('_', ' ')} {other}, the dense network with {one}"
    invalid = [f"{row.candidate}: {row.label}" for row in rows if row.reason and row.reason.startswith("invalid")]
    if invalid:
        yield f"numbers that failed a check are not compared ({'; '.join(invalid)})"


def _differing_recipe(dense: Sequence[Network], own: Sequence[Network]) -> Iterator[tuple[str, str, str]]:
    """Yield settings of training that differ, with both sides' values, where all networks know theirs."""
    sides = [[network.record.model.training.get("recipe") or {} for network in side] for side in (dense, own)]
    recipes = [*sides[0], *sides[1]]
    for name in dict.fromkeys(name for recipe in recipes for name in recipe) if all(recipes) else ():
        one, other = (", ".join(sorted({str(recipe.get(name)) for recipe in side})) for side in sides)
        if one != other:
            yield name, one, other


def _seeds(networks: Sequence[Network]) -> str:
    return ", ".join("unknown" if network.seed is None else str(network.seed) for network in networks)
