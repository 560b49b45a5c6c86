"""Tickets: made by removing layers or filters or masking weights, rewound, saved, loaded and exported."""

from robustprune.tickets.cutting import prune_layers, prune_weights
from robustprune.tickets.matching import prune_filters
from robustprune.tickets.replacing import replace_linear
from robustprune.tickets.rewinding import reinitialize, rewind
from robustprune.tickets.ticket import Ticket, load_ticket

__all__ = [
    "Ticket",
    "load_ticket",
    "prune_filters",
    "prune_layers",
    "prune_weights",
    "reinitialize",
    "replace_linear",
    "rewind",
]
