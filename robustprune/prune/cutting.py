"""What a ticket takes over from the network it is cut out of."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from robustprune.data import ImageData
from robustprune.provenance import describe_environment
from robustprune.pruning import Masks
from robustprune.ticket import Ticket
from robustprune.ticket_header import Plan


def cut_out(
    source: Ticket,
    network: nn.Module,
    plan: Plan,
    data: ImageData | None,
    *,
    scores: Mapping[str, float | list[float]],
    masks: Masks,
) -> Ticket:
    """Return the untrained ticket that a network cut out of another one is."""
    return Ticket(
        network=network,
        architecture=source.architecture,
        plan=plan,
        masks=masks,
        scores=dict(scores),
        seed=source.seed,
        earlier_training=[*source.earlier_training, *([source.training] if source.training else [])],
        data=source.data if source.data or data is None else dict(data.spec),
        provenance=describe_environment(),
    )


def rounds_of(plan: Plan) -> tuple[Plan, ...]:
    """Return the plans of all rounds up to this one, each without those before it."""
    return () if plan.method == "none" else (*plan.earlier, plan.model_copy(update={"earlier": ()}))
