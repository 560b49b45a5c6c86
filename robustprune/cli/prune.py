"""`robustprune prune`: rank, remove or mask, write the ticket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import (
    ELIGIBILITY,
    ELIGIBILITY_HELP,
    UNIT,
    UNIT_HELP,
    DataOptions,
    NetworkOptions,
    Setup,
    dataset_options,
    gathered,
    given_names,
    list_option,
    network_options,
    setup_options,
    was_given,
)
from robustprune.cli.paths import Source, Target
from robustprune.runtime.file_kinds import TICKET

if TYPE_CHECKING:
    import torch

    from robustprune.data import ImageData
    from robustprune.pruning import FilterVariant
    from robustprune.runtime.work import Work
    from robustprune.tickets.requests import Pruning
    from robustprune.tickets.ticket import Ticket

# What belongs to each method, and of which it needs one.
_OPTIONS = {
    "layer": ("blocks", "eligibility", "unit"),
    "filter": ("match", "filters", "match_by"),
    "weight": ("sparsity", "rounds"),
}
_ADVICE = {"layer": "; `robustprune blocks --model …` shows how many can go"}
_NEEDED = {"layer": ("blocks",), "filter": ("match", "filters"), "weight": ("sparsity",)}


@dataclass(frozen=True)
class _Wanted:
    """What of a network is to go; of filters as many as a ticket's file tells, or so many."""

    pruning: Pruning
    match: str | None
    filters: int | None


def _wanted(method: str, criterion: str, **own: Any) -> _Wanted:
    """Return what is asked for; refuse the options of another method, and that the method's own is missing."""
    from robustprune.tickets.requests import Pruning

    given = {name: value for name, value in own.items() if value not in (None, ())}
    kind = method.removesuffix("-uniform")
    for owner, names in _OPTIONS.items():
        for name in given.keys() & set(names) if owner != kind else ():
            raise click.UsageError(f"--{name.replace('_', '-')} belongs to --method {owner}, not to --method {kind}")
    if not given.keys() & set(_NEEDED[kind]):
        flags = " or ".join(f"'--{name}'" for name in _NEEDED[kind])
        raise click.UsageError(f"Missing option {flags}, which --method {kind} needs{_ADVICE.get(kind, '')}.")
    if "filters" in given and ("match" in given or "match_by" in given):
        raise click.UsageError("--filters says how many go, --match and --match-by leave that to a ticket; give one")
    match, filters = (given.pop(name, None) for name in ("match", "filters"))
    if "blocks" in given:
        given["blocks"] = _blocks(given["blocks"])
    is_named = isinstance(given.get("blocks"), list)
    if is_named and was_given("criterion"):
        raise click.UsageError("--blocks names what goes, and --criterion would choose it; give one of the two")
    return _Wanted(Pruning(method, criterion=None if is_named else criterion, **given), match, filters)


def _blocks(given: Sequence[str]) -> int | list[str]:
    """Return how many blocks go, or which."""
    names = given_names(given)
    if len(names) > 1 or not names[0].lstrip("+-").isdecimal():
        return names
    return click.IntRange(min=1).convert(int(names[0]), None, None)


prune_options = gathered(
    "wanted",
    _wanted,
    click.option(
        "--method",
        type=click.Choice(["layer", "filter", "filter-uniform", "weight"]),
        default="layer",
        help="What to remove: blocks (layer); filters, ranked over the whole network (filter) or at the same share "
        "of each "
        "convolution (filter-uniform); or single weights (weight), which are set to zero and save no computation.",
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
        help="layer: number of blocks to remove by the criterion; or names of the blocks, which takes no criterion. "
        "This method needs it.",
    ),
    click.option("--eligibility", type=ELIGIBILITY, help=f"layer: {ELIGIBILITY_HELP}  [default: paper]"),
    click.option("--unit", type=UNIT, help=f"layer: {UNIT_HELP}  [default: block]"),
    click.option("--match", type=Source(), help="filter: layer ticket to match; see --match-by."),
    click.option(
        "--filters", type=click.IntRange(min=1), help="filter: number of filters to remove, instead of --match."
    ),
    click.option(
        "--match-by",
        type=click.Choice(["filters", "macs", "params"]),
        help="filter: what is matched to the --match ticket: the number of filters, as in the paper, MACs or "
        "parameters.  [default: filters]",
    ),
    click.option(
        "--sparsity",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="weight: share of convolution and linear weights to mask.",
    ),
    click.option(
        "--rounds",
        type=click.IntRange(min=1),
        help="weight: rounds of scoring and masking; each keeps the same share of weights.  [default: 100 for "
        "synflow, else "
        "1]",
    ),
    panel="Pruning",
)


@commands.command(
    examples=[
        "--model resnet32 --dataset digits --criterion grasp --blocks 4 --out ticket.pt",
        "--model resnet32 --blocks layer1.1,layer2.3 --out ticket.pt",
        "--model torchvision:vit_b_16 --unit attention --blocks 3 --out ticket.pt",
        "--model resnet32 --method filter --match ticket.pt --out filters.pt",
    ],
)
@network_options
@dataset_options
@prune_options
@click.option("--out", type=Target(TICKET, dir_okay=False), required=True, help="File of the ticket.")
@setup_options
def prune(
    network: NetworkOptions, dataset: DataOptions, wanted: _Wanted, out: str, setup: Setup, as_json: bool
) -> None:
    """Score blocks, filters or weights of a network, remove the least important ones, and write the ticket.

    The ticket is not trained: it holds the weights that the network has left. With --match, it starts from the same
    weights as the matched ticket, whose image set, loading options and seed are the defaults.
    """
    from robustprune.cli.workbench import open_matched, open_model
    from robustprune.cost import measure_cost
    from robustprune.runtime.work import Work
    from robustprune.tickets.ticket import load_ticket

    device, seed, match = setup.begin(), setup.seed, None
    if wanted.match is None:
        dense, data = open_model(network, dataset, seed=seed)
    else:
        match = load_ticket(wanted.match, model_code=network.code)
        dense, data = open_matched(match, network, dataset, seed=seed if was_given("seed") else None)
        if not was_given("seed"):
            seed = match.seed if match.plan.seed is None else match.plan.seed
    dense.check_fits(data)
    with terminal.progress_bar() as bar:
        ticket = _cut(dense, data, wanted, match, seed, device, Work(progress=bar))
    ticket.save(out)
    before, after = measure_cost(dense.network), measure_cost(ticket.network)
    if as_json:
        figures = {"before": before.to_dict(), "after": after.to_dict(), "out": out}
        terminal.print_json({**_describe(ticket, wanted.pruning), **figures})
        return
    _draw(ticket, dense)
    without = f" without {', '.join(ticket.plan.removed)}" if ticket.plan.removed else ""
    saved = after.saved_percent(before)
    labels = {"parameters": "parameters", "macs": "MACs per image", "filters": "filters"}
    terminal.table(
        "Cost",
        ["", ">before", ">after", ">saved"],
        [
            [label, f"{getattr(before, name):,}", f"{getattr(after, name):,}", f"{saved[name]:.2f} %"]
            for name, label in labels.items()
        ],
        "\n".join([f"{ticket.architecture.called}{without}; ticket in {out}", *terminal.pruning_notes(ticket)]),
    )


def _cut(
    dense: Ticket,
    data: ImageData,
    wanted: _Wanted,
    match: Ticket | None,
    seed: int,
    device: torch.device,
    work: Work,
) -> Ticket:
    from robustprune.pruning import make_criterion
    from robustprune.tickets import prune_filters, prune_weights
    from robustprune.tickets.finding import check_possible, cut, score

    asked = wanted.pruning
    if asked.criterion is None:  # blocks are named
        return cut(dense, None, asked)
    make_criterion(str(asked.criterion), **asked.options)  # what it does not take is found out here
    if asked.method == "weight":
        how: dict[str, Any] = {"rounds": asked.rounds, "seed": seed, "device": device, "work": work, **asked.options}
        return prune_weights(dense, data, str(asked.criterion), sparsity=float(asked.sparsity or 0), **how)
    if asked.method == "layer":
        check_possible(dense.network, asked)
    scores: Any = score(dense, data, asked, seed, device, work)
    if wanted.filters is None:
        return cut(dense, scores, asked, match)
    variant: FilterVariant = "uniform" if asked.method == "filter-uniform" else "global"
    return prune_filters(dense, scores, filters=wanted.filters, variant=variant)


def _describe(ticket: Ticket, asked: Pruning) -> dict[str, Any]:
    """Return what JSON says of a ticket."""
    plan = ticket.plan
    found: dict[str, Any] = {
        "method": plan.method,
        "criterion": plan.criterion,
        "unit": plan.unit,
        "blocks": asked.blocks,
        "removed": list(plan.removed),
        "eligible": list(plan.eligible),
        "scores": ticket.scores,
        "match_gap": plan.match.gap if plan.match else None,
        "seconds": plan.scoring_seconds,
    }
    if plan.method == "filter":
        found |= {
            "filters": sum(gone for _, gone in _filters_left(ticket).values()),
            "removed_filters": {name: list(indices) for name, indices in plan.removed_filters.items()},
            "variant": plan.variant,
            "match": plan.match.model_dump(mode="json") if plan.match else None,
        }
    if ticket.masks:
        found |= {
            "sparsity": plan.sparsity,
            "rounds": plan.rounds,
            "masks": ticket.mask_summary,
            "layers": _weights_kept(ticket),
        }
    return found


def _draw(ticket: Ticket, dense: Ticket) -> None:
    """Draw what each block or filter was worth, or how many weights each parameter has left."""
    plan = ticket.plan
    if plan.criterion is None:
        return
    if plan.method == "layer":
        rows = sorted(ticket.scores.items(), key=lambda item: item[1])
        decisions = _decisions(ticket, dense)
        terminal.table(
            f"{plan.criterion} scores, lowest first (higher: more important)",
            ["block", ">importance", "decision"],
            [[name, f"{score:.4g}", decisions[name]] for name, score in rows],
        )
    elif plan.method == "filter":
        terminal.table(
            f"Filters removed by {plan.criterion}, {plan.variant}",
            ["convolution", ">filters", ">removed", ">left"],
            [[name, left + gone, gone or "", left] for name, (left, gone) in _filters_left(ticket).items()],
        )
    else:
        terminal.table(
            f"Weights kept by {plan.criterion} in {plan.rounds} round{'s' if plan.rounds != 1 else ''}",
            ["parameter", ">weights", ">kept", ">share"],
            [
                [name, f"{count['weights']:,}", f"{count['kept']:,}", terminal.percent_kept(count)]
                for name, count in _weights_kept(ticket).items()
            ],
        )


def _decisions(ticket: Ticket, dense: Ticket) -> dict[str, str]:
    """Return what became of each block of the dense network, and why one stays although its score is low."""
    from robustprune.pruning import find_blocks, ineligible_because

    plan, blocks = ticket.plan, find_blocks(dense.network, unit=ticket.plan.unit)
    scores: Mapping[str, Any] = ticket.scores  # of blocks, hence one number each
    highest = max(scores[name] for name in plan.removed if name in scores)
    found = {}
    for block in blocks:
        reason = ineligible_because(block, blocks, plan.eligibility or "paper")
        if block.name in plan.removed:
            found[block.name] = "removed"
        elif reason is not None:
            found[block.name] = f"kept: {reason}"
        elif scores[block.name] < highest:
            found[block.name] = "kept: its stage is down to two blocks"
        else:
            found[block.name] = "kept"
    return found


def _filters_left(ticket: Ticket) -> dict[str, tuple[int, int]]:
    """Return how many filters of each scored convolution are left, and how many this round took."""
    left = {name: len(ticket.network.get_parameter(f"{name}.weight")) for name in ticket.scores}
    before = {name: len(scores) for name, scores in ticket.scores.items() if isinstance(scores, list)}
    return {name: (left[name], count - left[name]) for name, count in before.items()}


def _weights_kept(ticket: Ticket) -> dict[str, dict[str, int]]:
    return {name: {"weights": mask.numel(), "kept": int(mask.sum())} for name, mask in ticket.masks.items()}
