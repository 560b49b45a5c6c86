"""From a network and scores to a ticket."""

from __future__ import annotations

from torch import nn

from robustprune.data import ImageData
from robustprune.provenance import describe_environment
from robustprune.pruning import (
    BlockScores,
    Eligibility,
    check_eligibility,
    choose_blocks,
    eligible_blocks,
    find_blocks,
    remove_blocks,
)
from robustprune.ticket import Ticket
from robustprune.ticket_header import Plan


def prune_layers(
    model: nn.Module | Ticket,
    scores: BlockScores,
    *,
    blocks: int,
    eligibility: Eligibility = "authors",
    data: ImageData | None = None,
) -> Ticket:
    """Remove the least important blocks of a network for real and return the ticket.

    Args:
        model: A network, or a ticket (whose data set and seed are kept).
        scores: From :func:`robustprune.score_blocks` on that network.
        blocks: How many go.
        eligibility: Which may go: ``authors``, ``strict`` or ``identity``.
        data: The image set to remember; a ticket remembers its own.

    Raises:
        PruningError: More blocks than can go, or scores that do not fit.
    """
    source = model if isinstance(model, Ticket) else Ticket.from_model(model, data)
    found = find_blocks(source.network)
    rule = check_eligibility(eligibility)
    removed = {
        block.name: block.residue for block in choose_blocks(found, scores, blocks, rule) if block.residue is not None
    }
    return Ticket(
        network=remove_blocks(source.network, removed),
        architecture=source.architecture,
        plan=Plan(
            method="layer",
            removed={**source.plan.removed, **removed},
            eligible=tuple(block.name for block in eligible_blocks(found, rule)),
            eligibility=rule,
            criterion=scores.criterion,
            options=scores.options,
            seed=scores.seed,
            scoring_seconds=scores.seconds,
            earlier=_rounds(source.plan),
        ),
        scores=dict(scores),
        seed=source.seed,
        earlier_training=[*source.earlier_training, *([source.training] if source.training else [])],
        data=source.data if source.data or data is None else dict(data.spec),
        provenance=describe_environment(),
    )


def _rounds(plan: Plan) -> tuple[Plan, ...]:
    return () if plan.method == "none" else (*plan.earlier, plan.model_copy(update={"earlier": ()}))
