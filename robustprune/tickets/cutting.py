"""What a ticket takes over from the network it is cut out of."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from torch import nn

from robustprune.data import ImageData
from robustprune.errors import PruningWarning
from robustprune.pruning import Masks
from robustprune.pruning.surgery import idle_parameters
from robustprune.runtime.environment import describe_environment
from robustprune.tickets.header import Plan
from robustprune.tickets.ticket import Ticket


def cut_out(
    source: Ticket,
    network: nn.Module,
    plan: Plan,
    data: ImageData | None,
    *,
    scores: Mapping[str, float | list[float]],
    masks: Masks,
) -> Ticket:
    """Return the untrained ticket that a network cut out of another one is.

    Warns:
        PruningWarning: Some of its parameters take no part in what it computes, so shares of parameters are of more
            than runs.
    """
    _warn_of_idle_parameters(network)
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


def _warn_of_idle_parameters(network: nn.Module) -> None:
    parameters = dict(network.named_parameters())
    idle = idle_parameters(network, parameters)
    if idle:
        count = sum(parameters[name].numel() for name in idle)
        warnings.warn(
            f"{count:,} of the network's {sum(weight.numel() for weight in parameters.values()):,} parameters take no "
            f"part in what it computes, {idle[0]} among them: they are counted, but cost no multiply-accumulates",
            PruningWarning,
            stacklevel=4,
        )


def rounds_of(plan: Plan) -> tuple[Plan, ...]:
    """Return the plans of all rounds up to this one, each without those before it."""
    return () if plan.method == "none" else (*plan.earlier, plan.model_copy(update={"earlier": ()}))
