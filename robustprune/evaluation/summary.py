"""What a record says of the network it is about."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from robustprune.cost import measure_cost, measure_memory
from robustprune.errors import ModelError
from robustprune.models import build_network, network_name
from robustprune.pruning import find_blocks
from robustprune.records import BlockSummary, ModelSummary
from robustprune.runtime.environment import hash_weights
from robustprune.tickets.header import Plan
from robustprune.tickets.ticket import Ticket


def summarize_model(model: Ticket | nn.Module, network: nn.Module, images: Tensor, path: str | None) -> ModelSummary:
    """Return what a record says of a network; one image (1, C, H, W) uint8 tells the shape to count costs with."""
    ticket = model if isinstance(model, Ticket) else None
    example = images.cpu().float() / 255
    cost = measure_cost(network, example)
    return ModelSummary(
        path=path,
        architecture=ticket.architecture.name if ticket else network_name(network),
        sha256=hash_weights(network),
        parameters=cost.parameters,
        macs=cost.macs,
        filters=cost.filters,
        removed=list(ticket.plan.removed) if ticket else [],
        memory_bytes=_memory(network, example),
        masks=ticket.mask_summary if ticket else None,
        plan=(ticket.plan if ticket else Plan()).model_dump(mode="json"),
        initial_seed=ticket.seed if ticket else None,
        training=dict(ticket.training) if ticket else {},
        earlier_training=list(ticket.earlier_training) if ticket else [],
        blocks=_blocks(ticket) if ticket else [],
        history=list(ticket.history) if ticket else [],
    )


def _memory(network: nn.Module, example: Tensor) -> dict[str, int] | None:
    try:
        return measure_memory(network, example=example).to_dict()
    except ModelError:  # one that runs in evaluation mode alone is evaluated all the same
        return None


def _blocks(ticket: Ticket) -> list[BlockSummary]:
    """Return the blocks of the dense network, if it is they that were scored and not filters."""
    if ticket.plan.method != "layer" or not ticket.scores:
        return []
    scores: dict[str, Any] = ticket.scores
    return [
        BlockSummary(
            name=block.name,
            stage=block.stage,
            eligible=block.name in ticket.plan.eligible,
            removed=block.name in ticket.plan.removed,
            score=scores.get(block.name),
        )
        for block in find_blocks(build_network(ticket.architecture))
    ]
