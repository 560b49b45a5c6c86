"""Tickets whose removed blocks linear maps stand in for, without training."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import torch
from torch import nn

from robustprune.data import AnyData, as_data, stratified_indices
from robustprune.errors import PruningError
from robustprune.models import copy_network, model_device, placed
from robustprune.pruning import Block, find_blocks
from robustprune.pruning.criteria.batched import as_batches
from robustprune.pruning.linear_maps import count_runs, replace_runs
from robustprune.runtime.devices import Device
from robustprune.runtime.work import Work, labelled, steps
from robustprune.tickets.ticket import Ticket


def replace_linear(
    ticket: Ticket,
    dense: Ticket | nn.Module,
    data: AnyData,
    *,
    samples: int = 512,
    ridge: float = 1e-3,
    merge: bool = True,
    seed: int = 0,
    device: Device = None,
    work: Work = Work(),
) -> Ticket:
    """Return a ticket with linear maps in place of the blocks or branches that it lost last, fitted in closed form.

    A map makes up for what a run of removed blocks did to the features, as far as a linear map of them can, by least
    squares over calibration images; see :mod:`robustprune.pruning.linear_maps` for the formula and its source. It
    becomes part of the linear layer that adds its output just before, as the MLP or attention of a transformer does,
    and costs nothing; where there is none, as in a ResNet, it is a linear layer of its own in place of the first block
    of the run, of (D + 1)·D parameters for D channels. Meant for trained networks.

    Args:
        ticket: From :func:`robustprune.prune_layers`, not trained since; left as it is.
        dense: The network or ticket that it was cut out of, with the same weights.
        data: The image set, or training images as for :func:`robustprune.as_data`.
        samples: How many un-augmented training images to calibrate on, classes in proportion; all if there are fewer.
        ridge: The penalty on what the map adds to the identity, as a share of the mean variance of what it is fitted
            on, from 0 on; 0 is ordinary least squares.
        merge: Make maps part of layers; else each is a layer of its own.
        seed: Decides the sample.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``, … or ``auto``, the fastest there is; by default where
            the network's weights are. The network itself stays where it is.
        work: Its progress is told of batches.

    Raises:
        PruningError: Nothing was removed since ``dense``, or the two have other weights; or no map can stand there.
    """
    if samples < 2 or not 0 <= ridge < math.inf:
        raise PruningError(
            f"linear maps take at least 2 samples and a finite ridge of at least 0, not {samples} and {ridge}"
        )
    data = as_data(data, "train")
    source = dense if isinstance(dense, Ticket) else Ticket.from_model(dense, ticket.architecture)
    blocks = _lost(ticket, source)
    whole = placed(source.network, device)
    network = copy_network(placed(ticket.network, device))
    labels = data.require("train").labels
    count = min(len(labels), max(samples, len(torch.unique(labels))))
    batches = as_batches(data, stratified_indices(labels, count, seed), None, whole)
    total = len(batches) * count_runs(whole, blocks, batches[0][0][:2])
    step = steps(labelled(work.progress, "fitting linear maps"), total)
    maps = replace_runs(whole, network, blocks, batches, ridge=ridge, merge=merge, step=step)
    found = copy.deepcopy(replace(ticket, network=nn.Identity(), path=None))
    found.network = network.to(model_device(ticket.network))
    found.plan = found.plan.model_copy(update={"replaced": {**found.plan.replaced, **maps}})
    return found


def _lost(ticket: Ticket, source: Ticket) -> list[Block]:
    """Return the blocks that a ticket lost since another one, which has to have the same weights."""
    names = [name for name in ticket.plan.removed if name not in source.plan.removed]
    if not names or ticket.plan.method != "layer":
        raise PruningError(
            "linear maps take the place of blocks, and the ticket lost none since the network that is handed over; "
            "prune layers first, and hand over the network that they were cut out of"
        )
    if any(place in ticket.plan.gone for place in ticket.plan.replaced.keys() - source.plan.replaced.keys()):
        raise PruningError("linear maps stand in place of its blocks already")
    before = source.network.state_dict()
    for name, value in ticket.network.state_dict().items():
        if name not in before or not torch.equal(value.cpu(), before[name].cpu()):
            raise PruningError(
                f"{name} of the ticket is not that of the network that it was cut out of; replace blocks before the "
                "ticket is trained or rewound, and by the very network that it was cut out of"
            )
    return [block for block in find_blocks(source.network, unit=ticket.plan.unit) if block.name in names]
