"""From what a user names on the command line to a ticket and its image set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustprune.data import ImageData, canonical_name, load_data
from robustprune.errors import TicketError
from robustprune.models import Architecture, build_model
from robustprune.tickets.ticket import Ticket, load_ticket

_DEFAULT_DATASET = "digits"


def open_model(
    model: str,
    dataset: str | None = None,
    *,
    data_options: Mapping[str, Any] | None = None,
    model_options: Mapping[str, Any] | None = None,
    model_code: str | None = None,
    seed: int = 0,
) -> tuple[Ticket, ImageData]:
    """Return a network and the image set that goes with it.

    Args:
        model: A ticket's file, or a model's name, which is built with fresh weights.
        dataset: An image set; by default the one a ticket remembers, and digits for a name.
        data_options: Arguments of :func:`robustprune.load_data`; None values count as not given. What is
            not given comes from the ticket, as long as the data set is the ticket's own; so does its seed, as
            images that one part of a ticket's life has trained on must not be validated on in another.
        model_options: Arguments of :func:`robustprune.build_model`.
        model_code: The Python file of a ``file:`` network's ticket.
        seed: Of fresh weights, and of a data set that no ticket remembers.

    Raises:
        RobustPruneError: Either cannot be had; the message says why.
    """
    if not is_ticket_path(model):
        data = open_data(dataset, data_options=data_options, seed=seed)
        network = build_model(model, data, seed=seed, **(model_options or {}))
        return Ticket.from_model(network, data), data
    ticket = load_ticket(model, model_code=model_code)
    if model_options:
        raise TicketError(f"{model} is a ticket, whose network is fixed; leave out --model-option")
    return ticket, _data_for(ticket, model, dataset, _given(data_options), seed)


def open_twin(
    match: Ticket,
    model: str,
    dataset: str | None = None,
    *,
    data_options: Mapping[str, Any] | None = None,
    model_options: Mapping[str, Any] | None = None,
    model_code: str | None = None,
    seed: int | None = None,
) -> tuple[Ticket, ImageData]:
    """Return a network that is to be matched to a ticket, and its image set: one that starts from the same weights.

    Arguments as for :func:`open_model`; for a model's name, what is not given is the ticket's own: image set, options
    and seed.

    Raises:
        TicketError: The network is another one than the ticket's, or starts from another seed or other weights.
        RobustPruneError: Either cannot be had; the message says why.
    """
    if is_ticket_path(model):
        twin, data = open_model(
            model,
            dataset,
            data_options=data_options,
            model_options=model_options,
            model_code=model_code,
            seed=match.seed if seed is None else seed,
        )
    else:
        if model != match.architecture.name:
            raise TicketError(
                f"the ticket to match is a {match.architecture.name}; its twin cannot be cut out of {model}"
            )
        if not _starts_from_its_seed(match):
            raise TicketError(
                "the ticket to match was cut out of a trained network, or rewound to one, and its twin has to start "
                f"from the same weights: name that network's file as --model instead of {model}"
            )
        if seed is not None and seed != match.seed:
            raise TicketError(
                f"the ticket to match starts from the weights of seed {match.seed}, its twin would from those of seed "
                f"{seed}; leave out --seed, or name a network's file as --model to score with another seed"
            )
        data = _data_for(match, "the ticket to match", dataset, _given(data_options), match.seed)
        options = {**match.architecture.options, **(model_options or {})}
        twin = Ticket.from_model(build_model(model, data, seed=match.seed, **options), data)
    if twin.seed != match.seed:
        raise TicketError(
            f"the ticket to match starts from the weights of seed {match.seed} and {model} from those of seed "
            f"{twin.seed}; match tickets of one seed"
        )
    return twin, data


def _starts_from_its_seed(ticket: Ticket) -> bool:
    """Return whether a ticket started from the weights that its seed gives, as far as the ticket can tell."""
    rewound = ticket.plan.rewound_to
    return not ticket.earlier_training if rewound is None else rewound in (0, "random")


def _data_for(ticket: Ticket, name: str, dataset: str | None, given: Mapping[str, Any], seed: int) -> ImageData:
    """Return the image set that a ticket remembers, or another one fitted to its network."""
    remembered = dict(ticket.data)
    if dataset is not None and canonical_name(dataset) != remembered.get("name"):
        # Another set is fitted to the network's input unless the user says otherwise.
        remembered = {
            "name": dataset,
            "image_size": _side(ticket),
            "channels": ticket.architecture.channels,
            "seed": seed,
        }
    if not remembered:
        raise TicketError(f"{name} remembers no data set; name one with --dataset")
    return load_data(**{**remembered, **given})


def open_data(dataset: str | None, *, data_options: Mapping[str, Any] | None = None, seed: int = 0) -> ImageData:
    """Return an image set without a network; None values of its options count as not given."""
    return load_data(_DEFAULT_DATASET if dataset is None else dataset, seed=seed, **_given(data_options))


def open_network(model: str, dataset: str | None = None, **options: Any) -> Ticket:
    """Return a network without its image set, which a ticket needs not have at hand.

    Arguments and errors as for :func:`open_model`.
    """
    asked_for_data = dataset is not None or bool(_given(options.get("data_options")))
    if is_ticket_path(model) and not asked_for_data and not options.get("model_options"):
        return load_ticket(model, model_code=options.get("model_code"))
    return open_model(model, dataset, **options)[0]


def open_alike(
    model: str,
    images: ImageData | Architecture,
    *,
    model_options: Mapping[str, Any] | None = None,
    model_code: str | None = None,
    seed: int = 0,
) -> Ticket:
    """Return another network for the same images: a ticket's, or one by name with fresh weights.

    Args:
        model: A ticket's file, or a model's name.
        images: The image set that it is shown, or what takes such images and shapes a network that is built by name.
        model_options: Arguments of :func:`robustprune.build_model`; a ticket has no use for them.
        model_code: The Python file of a ``file:`` network's ticket.
        seed: Of fresh weights.

    Raises:
        RobustPruneError: It cannot be had, or does not take the images of the set.
    """
    data = images if isinstance(images, ImageData) else None
    if not is_ticket_path(model):
        return Ticket.from_model(build_model(model, images, seed=seed, **(model_options or {})), data)
    ticket = load_ticket(model, model_code=model_code)
    if data is not None:
        ticket.check_fits(data)
    return ticket


def is_ticket_path(model: str) -> bool:
    """Return whether ``--model`` names a file of ours rather than a kind of network."""
    return model.endswith((".pt", ".pth", ".ckpt")) or Path(model).is_file()


def _given(options: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (options or {}).items() if value is not None}


def _side(ticket: Ticket) -> int:
    height, width = ticket.architecture.image_size
    if height != width:
        raise TicketError(
            f"the network takes {height}×{width} images, and only square ones can be resized to; "
            "give a data set of that shape"
        )
    return height
