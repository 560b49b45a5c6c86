"""Going back: a ticket with the weights that its dense network had at an earlier time, or with a control of them.

Controls keep the distribution of the initial weights, and nothing else of them: new ones, or the same in another order
(Frankle et al. 2021, "Pruning neural networks at initialization: why are we missing the mark?").
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, replace

import torch
from torch import nn

from robustprune.errors import PruningError
from robustprune.models import build_network, copy_network
from robustprune.pruning import find_blocks
from robustprune.runtime.randomness import derive_seed, seeded_generator
from robustprune.tickets.ticket import Ticket, apply_plan

_NAMED = ("random", "shuffled", "none")


@dataclass(frozen=True)
class RewindPoint:
    """Where kept weights come from: the dense network after so many epochs (0 is initialization), or a control.

    Attributes:
        epoch: Of the dense training; 0 for what is no epoch.
        random: New weights.
        shuffled: The initial weights, in another order within each tensor of each block.
        none: Those that the ticket has, which training goes on from: fine-tuning.
    """

    epoch: int = 0
    random: bool = False
    shuffled: bool = False
    none: bool = False

    @property
    def origin(self) -> int | str:
        """The epoch, ``random``, ``shuffled`` or ``none``."""
        named = [name for name in _NAMED if getattr(self, name)]
        return named[0] if named else self.epoch

    @property
    def label(self) -> str:
        """The same for readers."""
        if self.none:
            return "its own weights"
        return f"{self.origin} weights" if isinstance(self.origin, str) else f"epoch {self.epoch}"


def parse_rewind_point(text: str | int, epochs: int) -> RewindPoint:
    """Return the rewinding point that a text names, in a dense training of so many epochs.

    That is ``0`` or ``25`` (epochs), ``25%`` (of all, rounded to the nearest), ``random`` (new weights instead),
    ``shuffled`` (the initial weights of blocks, in another order), or ``none`` (the weights that the ticket has).
    """
    text = str(text).strip()
    if text in _NAMED:
        return RewindPoint(**{text: True})
    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)%", text)
    if not match:
        raise PruningError(
            f"{text!r} is no rewinding point; give epochs (0, 25), a share of them (25%), random, which draws new "
            "weights instead, shuffled, which puts the initial ones in another order, or none, which fine-tunes"
        )
    epoch = int(match[1]) if match[1] else round(float(match[2]) / 100 * epochs)
    if epoch >= epochs:
        raise PruningError(f"rewinding to {text} of {epochs} epochs leaves nothing to train; go back to an earlier one")
    return RewindPoint(epoch)


def set_back(found: Ticket, point: RewindPoint, dense: Ticket) -> Ticket:
    """Return a ticket with the weights it is trained from: those of ``dense`` as it was then, a control's, its own."""
    if point.none:
        return found
    if point.random:
        return reinitialize(found)
    return shuffle(found, dense) if point.shuffled else rewind(found, dense, point.epoch)


def rewind(ticket: Ticket, dense: Ticket | nn.Module, epoch: int) -> Ticket:
    """Return the ticket with what its kept blocks, filters and weights were in an earlier state of the dense network.

    Weights and buffers (running statistics of batch normalization among them) are those of ``dense``, bit by bit.

    Args:
        ticket: Cut out of a later state; left as it is.
        dense: The dense network as it was after ``epoch`` epochs; a module of one's own is left as it is.
        epoch: Said in the plan; train the ticket with ``start_epoch=epoch`` to resume the schedule there.

    Raises:
        PruningError: The two are not of one architecture.
        TicketError: The plan cannot be carried out on a module of one's own, which is built otherwise.
    """
    if not isinstance(dense, Ticket):
        dense = Ticket.from_model(dense, ticket.architecture)
    if dense.architecture != ticket.architecture:
        raise PruningError(
            f"a ticket of {ticket.architecture.called} cannot be rewound to weights of {dense.architecture.called}; "
            "both have to be built alike, for the same images"
        )
    return _with_weights_of(ticket, dense, epoch)


def reinitialize(ticket: Ticket) -> Ticket:
    """Return the ticket with new random weights; its seed says which.

    Raises:
        PruningError: The ticket is one of a user's module, which only they can build anew.
    """
    if ticket.architecture.is_module:
        raise PruningError(
            f"new weights of {ticket.architecture.called} cannot be drawn here, as only you can build it; build it "
            "anew and take the weights of that one: rewind(ticket, MyNet(…), 0)"
        )
    seed = derive_seed(ticket.seed, "reinitialized")
    return _with_weights_of(
        ticket, Ticket(build_network(ticket.architecture, seed=seed), ticket.architecture, seed=seed), "random"
    )


def shuffle(ticket: Ticket, dense: Ticket) -> Ticket:
    """Return the ticket with the weights of the dense network, those of blocks in another order within each tensor.

    The first convolution, the classifier and whatever else lies outside of blocks keep theirs, and buffers stay; of
    masked tensors the weights that are kept change places. The seed of the dense network decides the order.

    Raises:
        PruningError: The two are not of one architecture.
    """
    found = rewind(ticket, dense, 0)
    found.plan = found.plan.model_copy(update={"rewound_to": "shuffled"})
    within = tuple(f"{block.name}." for block in find_blocks(dense.network))
    with torch.no_grad():
        for name, weights in found.network.named_parameters():
            if name.startswith(within):
                kept = ticket.masks[name] if name in ticket.masks else torch.ones_like(weights, dtype=torch.bool)
                values = weights[kept]
                order = torch.randperm(len(values), generator=seeded_generator(dense.seed, "shuffled", name))
                weights[kept] = values[order.to(values.device)]
    return found


def _with_weights_of(ticket: Ticket, dense: Ticket, origin: int | str) -> Ticket:
    if ticket.plan.replaced:
        raise PruningError(
            "linear maps stand in place of blocks of this ticket, and were fitted to the weights that it has; rewind "
            "the ticket without them"
        )
    # A module of one's own may have been built otherwise this time.
    known = () if ticket.architecture.is_module else ticket.dense_blocks
    network = apply_plan(copy_network(dense.network), ticket.plan, ticket.masks, blocks=known)
    found = copy.deepcopy(replace(ticket, network=nn.Identity(), path=None))
    found.network = network
    found.plan = ticket.plan.model_copy(update={"rewound_to": origin})
    found.seed = dense.seed
    # What was trained since is not in these weights; that the ticket was found by it is.
    if ticket.training:
        found.earlier_training = [*ticket.earlier_training, ticket.training]
    found.history, found.training = [], {}
    return found
