"""What `robustprune prune` does and draws with each method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robustprune import terminal
from robustprune.cli.tables import percent_kept

if TYPE_CHECKING:
    from robustprune.data import ImageData
    from robustprune.ticket import Ticket
    from robustprune.ticket_header import Plan


def _prune_layers(
    dense: Ticket, data: ImageData, criterion: str, how: dict[str, Any], scoring: dict[str, Any]
) -> Ticket:
    from robustprune.prune import prune_layers
    from robustprune.pruning import score_blocks

    return prune_layers(dense, score_blocks(dense.network, data, criterion, **scoring), data=data, **how)


def _prune_weights(
    dense: Ticket, data: ImageData, criterion: str, how: dict[str, Any], scoring: dict[str, Any]
) -> Ticket:
    from robustprune.prune import prune_weights

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


def _draw_masks(ticket: Ticket) -> None:
    plan, layers = ticket.plan, mask_figures(ticket)["layers"].items()
    terminal.table(
        f"Weights kept by {plan.criterion} in {plan.rounds} round{'s' if plan.rounds != 1 else ''}",
        ["parameter", ">weights", ">kept", ">share"],
        [[name, f"{n['weights']:,}", f"{n['kept']:,}", percent_kept(n)] for name, n in layers],
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


PRUNE = {"layer": _prune_layers, "weight": _prune_weights}
DRAW = {"layer": _draw_blocks, "weight": _draw_masks}
