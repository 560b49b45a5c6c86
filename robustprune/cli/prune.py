"""`robustprune prune`: rank, remove or mask, write the ticket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import (
    DataOptions,
    NetworkOptions,
    Setup,
    dataset_options,
    network_options,
    setup_options,
    was_given,
)
from robustprune.cli.paths import Target
from robustprune.cli.prune_options import PruneOptions, prune_options
from robustprune.runtime.file_kinds import TICKET

if TYPE_CHECKING:
    import torch

    from robustprune.data import ImageData
    from robustprune.pruning import FilterVariant
    from robustprune.runtime.work import Work
    from robustprune.tickets.requests import Pruning
    from robustprune.tickets.ticket import Ticket


@commands.command(
    examples=[
        "--model resnet32 --dataset digits --criterion grasp --blocks 4 --out ticket.pt",
        "--model resnet32 --blocks layer1.1,layer2.3 --out ticket.pt",
        "--model torchvision:vit_b_16 --unit attention --blocks 3 --out ticket.pt",
        "--model resnet32 --criterion grasp --budget 'macs<=60%' --search beam:width=16 --out ticket.pt",
        "--model resnet32 --method filter --match ticket.pt --out filters.pt",
    ],
)
@network_options
@dataset_options
@prune_options
@click.option("--out", type=Target(TICKET, dir_okay=False), required=True, help="File of the ticket.")
@setup_options
def prune(
    network: NetworkOptions, dataset: DataOptions, wanted: PruneOptions, out: str, setup: Setup, as_json: bool
) -> None:
    """Score blocks, filters or weights of a network, remove the least important ones, and write the ticket.

    The ticket is not trained: it holds the weights that the network has left. With --match, it starts from the same
    weights as the matched ticket, whose image set, loading options and seed are the defaults.
    """
    from robustprune.cli.workbench import open_matched, open_model
    from robustprune.cost import measure_cost
    from robustprune.runtime.work import Work
    from robustprune.tickets import load_ticket, replace_linear

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
        work = Work(progress=bar)
        ticket = _cut(dense, data, wanted, match, seed, device, work)
        if wanted.replace is not None:
            ticket = replace_linear(ticket, dense, data, seed=seed, device=device, work=work, **wanted.replace)
    ticket.save(out)
    before, after = measure_cost(dense.network), measure_cost(ticket.network)
    if as_json:
        figures = {"before": before.to_dict(), "after": after.to_dict(), "out": out}
        terminal.print_json({**_describe(ticket, wanted.pruning), **figures})
        return
    _draw(ticket, dense, len(wanted.pruning.schedule))
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
    wanted: PruneOptions,
    match: Ticket | None,
    seed: int,
    device: torch.device,
    work: Work,
) -> Ticket:
    from robustprune.pruning import make_criterion
    from robustprune.tickets import prune_filters, prune_weights
    from robustprune.tickets.finding import check_possible, cut, cut_in_rounds, score

    asked = wanted.pruning
    if asked.criterion is None:  # blocks are named
        return cut(dense, None, asked)
    make_criterion(str(asked.criterion), **asked.options)  # what it does not take is found out here
    if asked.method == "weight":
        how: dict[str, Any] = {"rounds": asked.rounds, "seed": seed, "device": device, "work": work, **asked.options}
        return prune_weights(dense, data, str(asked.criterion), sparsity=float(asked.sparsity or 0), **how)
    if asked.method in ("layer", "joint"):
        check_possible(dense.network, asked)
        return cut_in_rounds(dense, data, asked, seed, device, work)
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
    if plan.method == "layer":
        found |= {name: getattr(plan, name) for name in ("unit", "budget", "search", "objective")}
        found["replaced"] = {place: each.model_dump(mode="json") for place, each in plan.replaced.items()}
    if asked.method in ("layer", "joint"):
        found |= {"rounds": len(asked.schedule) or 1, "decided_by": plan.decided_by}
    if ticket.masks:
        found |= {
            "sparsity": plan.sparsity,
            "rounds": plan.rounds,
            "masks": ticket.mask_summary,
            "layers": _weights_kept(ticket),
        }
    return found


def _draw(ticket: Ticket, dense: Ticket, rounds: int = 1) -> None:
    """Draw what each block or filter was worth, or how many weights each parameter has left."""
    plan = ticket.plan
    if plan.criterion is None or plan.objective == "ticket":
        return
    if plan.method == "layer":
        last = f" of the last of {rounds} rounds" if rounds > 1 else ""
        rows = sorted(ticket.scores.items(), key=lambda item: item[1])
        decisions = _decisions(ticket, dense)
        terminal.table(
            f"{plan.criterion} scores{last}, lowest first (higher: more important)",
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
        elif plan.search not in (None, "greedy"):
            found[block.name] = "kept"
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
