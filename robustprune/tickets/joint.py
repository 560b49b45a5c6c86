"""Layers or filters, whichever costs less: of two tickets that cost alike, the one that a criterion prefers.

Nascimento et al., "Pruning everything, everywhere, all at once" (arXiv:2506.04513), make two candidates in each round,
one that has lost layers and one that has lost filters, and go on with the one whose representations are more like those
of the network before (CKA).
"""

from __future__ import annotations

from typing import Any

from robustprune.data import ImageData
from robustprune.pruning import judge_tickets, make_criterion, named_criterion
from robustprune.registry import with_options
from robustprune.runtime.devices import Device
from robustprune.runtime.work import Work
from robustprune.tickets.ticket import Ticket

_DEARER = 0.05
"""Share by which a filter ticket may cost more than what it matches; one with no more filters to give costs more."""


def cheaper_cut(
    before: Ticket,
    candidates: tuple[Ticket, Ticket],
    data: ImageData,
    criterion: str,
    *,
    seed: int,
    device: Device = None,
    work: Work = Work(),
    **options: Any,
) -> Ticket:
    """Return which of two tickets is worth more by a criterion, as what is left of the network before; else the first.

    It is the first, too, where the second costs over 5 % more: whatever loses less is more like the network.

    Args:
        before: What both were cut out of.
        candidates: One without layers, one without filters.
        data: The image set.
        criterion: One that scores whole tickets, with its options.
        seed: Decides its sample.
        device: Where to compute; by default where the network is.
        work: Its progress is told of batches.
        options: The criterion's options.
    """
    criterion, options = named_criterion(criterion, options)
    judge = judge_tickets(before.network, data, criterion, seed=seed, device=device, work=work, **options)
    layers, filters = (judge(each.network) for each in candidates)
    match = candidates[1].plan.match
    is_dearer = match is not None and match.gap > _DEARER * match.target
    chosen = candidates[int(filters > layers and not is_dearer)]
    worth = len(candidates[0].plan.removed) - len(before.plan.removed)
    own = make_criterion(criterion, **options).model_dump(mode="json", exclude_defaults=True)
    chosen.plan = chosen.plan.model_copy(update={"decided_by": with_options(criterion, own), "blocks_worth": worth})
    return chosen
