"""From what a user names on the command line to a ticket and its image set."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from robustprune.cli import terminal
from robustprune.cli.options import DataOptions, NetworkOptions
from robustprune.data import ImageData, canonical_name, load_data
from robustprune.errors import TicketError
from robustprune.models import Architecture, build_model
from robustprune.runtime.progress import shown_progress
from robustprune.tickets.ticket import Ticket, load_ticket

if TYPE_CHECKING:
    from torch import nn


def open_model(
    network: NetworkOptions, dataset: DataOptions = DataOptions(), *, seed: int = 0
) -> tuple[Ticket, ImageData]:
    """Return a network, of a ticket or with fresh weights of a seed, and the image set that goes with it.

    What is not given of the image set comes from the ticket, as long as it is the ticket's own; so does its seed, as
    images that one part of a ticket's life has trained on must not be validated on in another. Without a ticket it is
    digits by default, split by ``seed``.
    """
    if not network.is_ticket:
        data = open_data(dataset, seed=seed)
        return Ticket.from_model(_build(network, data, seed), data), data
    ticket = load_ticket(network.name, model_code=network.code)
    if network.options:
        raise _is_fixed(network)
    return ticket, _data_for(ticket, network.model, dataset, seed)


def _build(network: NetworkOptions, images: ImageData | Architecture, seed: int, **options: Any) -> nn.Module:
    """Return a network with fresh weights, or with those of the checkpoint that is named; its own options count."""
    return build_model(network.model, images, seed=seed, weights_file=network.weights, **options)


def _is_fixed(network: NetworkOptions) -> TicketError:
    return TicketError(f"{network.name} is a ticket, whose network is fixed; leave out {', '.join(network.options)}")


def open_matched(
    match: Ticket, network: NetworkOptions, dataset: DataOptions = DataOptions(), *, seed: int | None = None
) -> tuple[Ticket, ImageData]:
    """Return a network that is to be matched to a ticket, and its image set: one that starts from the same weights.

    For a model's name, what is not given is the ticket's own: image set, options and seed.
    """
    if network.is_ticket:
        dense, data = open_model(network, dataset, seed=match.seed if seed is None else seed)
    else:
        rewound = match.plan.rewound_to
        if match.earlier_training if rewound is None else rewound not in (0, "random", "shuffled"):
            raise TicketError(
                "the ticket to match was cut out of a trained network, or rewound to one, and its matched ticket has "
                f"to start from the same weights: name that network's file as --model instead of {network.model}"
            )
        data = _data_for(match, "the ticket to match", dataset, match.seed)
        seed = match.seed if seed is None else seed
        dense = Ticket.from_model(_build(network, data, seed, **match.architecture.options), data)
    if dense.seed != match.seed:
        raise TicketError(
            f"the ticket to match starts from the weights of seed {match.seed} and {network.model} from those of seed "
            f"{dense.seed}; match tickets of one seed, or leave out --seed"
        )
    return dense, data


def _data_for(ticket: Ticket, called: str, dataset: DataOptions, seed: int) -> ImageData:
    """Return the image set that a ticket remembers, or another one fitted to its network."""
    remembered = dict(ticket.data)
    if dataset.name is not None and canonical_name(dataset.name) != remembered.get("name"):
        # Another set is fitted to the network's input unless the user says otherwise.
        height, width = ticket.architecture.image_size
        if height != width:
            raise TicketError(
                f"the network takes {height}×{width} images, and only square ones can be resized to; give a data set "
                "of that shape"
            )
        channels = ticket.architecture.channels
        remembered = {"name": dataset.name, "image_size": height, "channels": channels, "seed": seed}
    if not remembered:
        raise TicketError(f"{called} remembers no data set; name one with --dataset")
    return _load(**{**remembered, **dataset.given})


def open_data(dataset: DataOptions = DataOptions(), *, seed: int = 0) -> ImageData:
    """Return an image set without a network."""
    return _load("digits" if dataset.name is None else dataset.name, seed=seed, **dataset.given)


def _load(*named: str, **how: Any) -> ImageData:
    """Load an image set, below a bar of its own where the command shows none yet."""
    with nullcontext() if shown_progress() else terminal.progress_bar():
        return load_data(*named, **how)


def open_network(network: NetworkOptions, dataset: DataOptions = DataOptions(), *, seed: int = 0) -> Ticket:
    """Return a network as :func:`open_model` does, without its image set, which a ticket needs not have at hand."""
    if network.is_ticket and dataset == DataOptions() and not network.options:
        return load_ticket(network.name, model_code=network.code)
    return open_model(network, dataset, seed=seed)[0]


def open_model_like(network: NetworkOptions, images: ImageData | Architecture, *, seed: int = 0) -> Ticket:
    """Return another network for the same images: a ticket's, or one with fresh weights."""
    data = images if isinstance(images, ImageData) else None
    if not network.is_ticket:
        return Ticket.from_model(_build(network, images, seed), data)
    ticket = load_ticket(network.name, model_code=network.code)
    if network.options:
        raise _is_fixed(network)
    if data is not None:
        ticket.check_fits(data)
    return ticket
