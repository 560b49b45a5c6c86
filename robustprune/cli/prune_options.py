"""What `robustprune prune` is asked: the options of each method, and which of them go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from robustprune.cli.options import (
    ELIGIBILITY,
    ELIGIBILITY_HELP,
    UNIT,
    UNIT_HELP,
    decide_by_option,
    gathered,
    given_names,
    list_option,
    was_given,
)
from robustprune.cli.paths import Source

if TYPE_CHECKING:
    from robustprune.tickets.requests import Pruning

# What belongs to each method, and of which it needs one.
_OPTIONS = {
    "layer": (
        "blocks",
        "budget",
        "search",
        "objective",
        "eligibility",
        "unit",
        "rounds",
        "blocks_per_round",
        "replace",
    ),
    "filter": ("match", "filters", "match_by"),
    "joint": ("blocks", "eligibility", "rounds", "blocks_per_round", "match_by", "decide_by"),
    "weight": ("sparsity", "rounds"),
}
_ADVICE = {"layer": "; `robustprune blocks --model …` shows how many can go"}
_NEEDED = {
    "layer": ("blocks", "budget", "blocks_per_round"),
    "filter": ("match", "filters"),
    "joint": ("blocks", "blocks_per_round"),
    "weight": ("sparsity",),
}


@dataclass(frozen=True)
class PruneOptions:
    """What of a network is to go; of filters as many as a ticket's file tells, or so many.

    ``replace`` has the arguments of :func:`robustprune.replace_linear`; None where nothing replaces blocks.
    """

    pruning: Pruning
    match: str | None
    filters: int | None
    replace: dict[str, Any] | None


def _wanted(method: str, criterion: str, **own: Any) -> PruneOptions:
    """Return what is asked for; refuse the options of another method, and that the method's own is missing."""
    from robustprune.tickets.requests import Pruning

    given = {name: value for name, value in own.items() if value not in (None, ())}
    kind = method.removesuffix("-uniform")
    for name in given.keys() - set(_OPTIONS[kind]):
        owners = " or ".join(owner for owner, names in _OPTIONS.items() if name in names)
        raise click.UsageError(f"--{name.replace('_', '-')} belongs to --method {owners}, not to --method {kind}")
    if not given.keys() & set(_NEEDED[kind]):
        flags = " or ".join(f"'--{name.replace('_', '-')}'" for name in _NEEDED[kind])
        raise click.UsageError(f"Missing option {flags}, which --method {kind} needs{_ADVICE.get(kind, '')}.")
    if "filters" in given and ("match" in given or "match_by" in given):
        raise click.UsageError("--filters says how many go, --match and --match-by leave that to a ticket; give one")
    match, filters, replace = (given.pop(name, None) for name in ("match", "filters", "replace"))
    if "blocks" in given and "budget" in given:
        raise click.UsageError("--blocks says how many go, and --budget leaves that to a search; give one of the two")
    if "budget" not in given and given.keys() & {"search", "objective"}:
        raise click.UsageError("--search and --objective choose within a budget; add --budget 'macs<=60%', for example")
    if "blocks" in given:
        given["blocks"] = _blocks(given["blocks"])
    is_named = isinstance(given.get("blocks"), list)
    if is_named and kind == "joint":
        raise click.UsageError("--method joint takes a number of --blocks, which filters may go instead of")
    if is_named and was_given("criterion"):
        raise click.UsageError("--blocks names what goes, and --criterion would choose it; give one of the two")
    asked = Pruning(method, criterion=None if is_named else criterion, **given)
    return PruneOptions(asked.check() if kind in ("layer", "joint") else asked, match, filters, _replacing(replace))


def _replacing(text: str | None) -> dict[str, Any] | None:
    """Return the arguments that are written behind ``linear``."""
    from robustprune.registry import read_options, suggest

    if text is None:
        return None
    name, options = read_options(text)
    kinds: dict[str, tuple[tuple[type, ...], str]] = {
        "samples": ((int,), "a whole number"),
        "ridge": ((int, float), "a number"),
        "merge": ((bool,), "true or false"),
    }
    if name != "linear":
        raise click.UsageError(f"--replace {name}: blocks are replaced by linear maps alone; give --replace linear")
    for key, value in options.items():
        if key not in kinds:
            known = ", ".join(kinds)
            raise click.UsageError(f"--replace linear has no option {key!r}.{suggest(key, kinds)} It takes {known}.")
        types, what = kinds[key]
        if type(value) not in types:
            raise click.UsageError(f"--replace linear:{key}={value}: {key} is {what}")
    return options


def _blocks(given: Sequence[str]) -> int | list[str]:
    """Return how many blocks go, or which."""
    names = given_names(given)
    if len(names) > 1 or not names[0].lstrip("+-").isdecimal():
        return names
    return click.IntRange(min=1).convert(int(names[0]), None, None)


_search_options = (
    click.option(
        "--budget",
        metavar="COST<=NUMBER[%]",
        help="layer: in place of --blocks, what the ticket may cost at most: 'macs<=60%' of the network's, "
        "'params<=200000'. "
        "Costs: macs, parameters, filters, training_memory, inference_memory (bytes), latency (ms, measured here).",
    ),
    click.option(
        "--search",
        type=str,
        metavar="NAME",
        help="layer: which blocks go within --budget. greedy: those of the lowest scores; beam:width=8, "
        "evolution:generations=20, exhaustive: the best of the sets that it comes upon.  [default: greedy]",
    ),
    click.option(
        "--objective",
        type=click.Choice(["blocks", "ticket"]),
        help="layer: what a search goes by: the summed scores of blocks, or what the criterion finds the whole ticket "
        "to be worth.  [default: blocks]",
    ),
)

prune_options = gathered(
    "wanted",
    _wanted,
    click.option(
        "--method",
        type=click.Choice(["layer", "filter", "filter-uniform", "joint", "weight"]),
        default="layer",
        help="What to remove: blocks (layer); filters, ranked over the whole network (filter) or at the same share "
        "of each "
        "convolution (filter-uniform); in each round blocks, or filters that match them, as --decide-by says (joint); "
        "or single weights (weight), which are set to zero and save no computation.",
    ),
    click.option(
        "--criterion",
        default="grasp",
        help="Importance criterion, with its options: grasp:samples_per_class=20. What it scores lowest is removed "
        "first. Blocks can be ranked by several together: grasp+cka. "
        "See `robustprune list criteria`.",
    ),
    list_option(
        "--blocks",
        metavar="NUMBER or NAME,…",
        help="layer, joint: number of blocks to remove by the criterion; layer: or names of the blocks, which takes no "
        "criterion. layer needs it, or --budget.",
    ),
    *_search_options,
    click.option("--eligibility", type=ELIGIBILITY, help=f"layer, joint: {ELIGIBILITY_HELP}  [default: paper]"),
    click.option("--unit", type=UNIT, help=f"layer: {UNIT_HELP}  [default: block]"),
    click.option(
        "--replace",
        metavar="linear[:OPTION=VALUE,…]",
        help="layer: fit linear maps in the place of what goes, by least squares over training images: for trained "
        "networks. Each becomes part of the linear layer before it; with merge=false, or where there is none, it is a "
        "layer of its own. samples=512 images, ridge=0.001.",
    ),
    click.option("--match", type=Source(), help="filter: layer ticket to match; see --match-by."),
    click.option(
        "--filters", type=click.IntRange(min=1), help="filter: number of filters to remove, instead of --match."
    ),
    click.option(
        "--match-by",
        type=click.Choice(["filters", "macs", "params"]),
        help="filter: what is matched to the --match ticket: the number of filters, as in the paper, MACs or "
        "parameters; joint: what filters are matched in to the blocks of a round.  [default: filters]",
    ),
    decide_by_option,
    click.option(
        "--sparsity",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="weight: share of convolution and linear weights to mask.",
    ),
    click.option(
        "--rounds",
        type=click.IntRange(min=1),
        help="layer, joint: rounds of scoring and removing; each removes the same share of --blocks, or "
        "--blocks-per-round. Nothing is trained in between: `robustprune lottery` does that. weight: rounds of scoring "
        "and masking; each keeps the same share of weights.  [default: 1; weight: 100 for synflow]",
    ),
    click.option(
        "--blocks-per-round",
        type=click.IntRange(min=1),
        help="layer, joint: blocks to remove in each round of scoring.",
    ),
    panel="Pruning",
)
