"""What `robustprune prune` does and draws with each method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robustprune.cli import terminal

if TYPE_CHECKING:
    from robustprune.data import ImageData
    from robustprune.tickets.header import Plan
    from robustprune.tickets.ticket import Ticket


def _prune_layers(
    dense: Ticket, data: ImageData, criterion: str, how: dict[str, Any], scoring: dict[str, Any]
) -> Ticket:
    from robustprune.pruning import score_blocks
    from robustprune.tickets import prune_layers

    return prune_layers(dense, score_blocks(dense.network, data, criterion, **scoring), data=data, **how)


def _prune_filters(
    dense: Ticket, data: ImageData, criterion: str, how: dict[str, Any], scoring: dict[str, Any]
) -> Ticket:
    from robustprune.pruning import first_convolutions, score_filters
    from robustprune.tickets import prune_filters

    layers = list(first_convolutions(dense.network).values())
    return prune_filters(dense, score_filters(dense.network, layers, data, criterion, **scoring), data=data, **how)


def _prune_weights(
    dense: Ticket, data: ImageData, criterion: str, how: dict[str, Any], scoring: dict[str, Any]
) -> Ticket:
    from robustprune.tickets import prune_weights

    return prune_weights(dense, data, criterion, **how, **scoring)


def _draw_blocks(ticket: Ticket) -> None:
    rows = sorted(ticket.scores.items(), key=lambda item: item[1])
    terminal.table(
        f"{ticket.plan.criterion} scores, least important first",
        ["block", ">importance", ""],
        [[name, f"{score:.4g}", _fate(name, ticket.plan)] for name, score in rows],
    )


def _fate(name: str, plan: Plan) -> str:
    if name in plan.removed:
        return "removed"
    return "" if name in plan.eligible else "not eligible"


def _draw_filters(ticket: Ticket) -> None:
    plan = ticket.plan
    terminal.table(
        f"Filters removed by {plan.criterion}, {plan.variant}",
        ["convolution", ">filters", ">removed", ">left"],
        [[name, left + gone, gone or "", left] for name, (left, gone) in _filters_left(ticket).items()],
    )


def _filters_left(ticket: Ticket) -> dict[str, tuple[int, int]]:
    """Return how many filters of each scored convolution are left, and how many this round took."""
    left = {name: len(ticket.network.get_parameter(f"{name}.weight")) for name in ticket.scores}
    before = {name: len(scores) for name, scores in ticket.scores.items() if isinstance(scores, list)}
    return {name: (left[name], count - left[name]) for name, count in before.items()}


def filter_figures(ticket: Ticket) -> dict[str, Any]:
    """Return what JSON says of a filter ticket, nothing for others."""
    plan = ticket.plan
    if plan.method != "filter":
        return {}
    return {
        "filters": sum(gone for _, gone in _filters_left(ticket).values()),
        "removed_filters": {name: list(indices) for name, indices in plan.removed_filters.items()},
        "variant": plan.variant,
        "match": plan.match.model_dump(mode="json") if plan.match else None,
    }


def _draw_masks(ticket: Ticket) -> None:
    plan, layers = ticket.plan, mask_figures(ticket)["layers"].items()
    terminal.table(
        f"Weights kept by {plan.criterion} in {plan.rounds} round{'s' if plan.rounds != 1 else ''}",
        ["parameter", ">weights", ">kept", ">share"],
        [[name, f"{n['weights']:,}", f"{n['kept']:,}", terminal.percent_kept(n)] for name, n in layers],
    )


def mask_figures(ticket: Ticket) -> dict[str, Any]:
    """Return what JSON says of masks, nothing where there are none."""
    if not ticket.masks:
        return {}
    layers = {name: {"weights": mask.numel(), "kept": int(mask.sum())} for name, mask in ticket.masks.items()}
    return {
        "sparsity": ticket.plan.sparsity,
        "rounds": ticket.plan.rounds,
        "masks": ticket.mask_summary,
        "layers": layers,
    }


PRUNE = {"layer": _prune_layers, "filter": _prune_filters, "weight": _prune_weights}
DRAW = {"layer": _draw_blocks, "filter": _draw_filters, "weight": _draw_masks}
