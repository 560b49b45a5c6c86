"""Tickets: made by removing layers or filters or masking weights, rewound, saved, loaded and exported."""

from robustprune.tickets.filters import prune_filters
from robustprune.tickets.layers import prune_layers
from robustprune.tickets.rewinding import reinitialize, rewind
from robustprune.tickets.ticket import Ticket, load_ticket
from robustprune.tickets.weights import prune_weights

__all__ = ["Ticket", "load_ticket", "prune_filters", "prune_layers", "prune_weights", "reinitialize", "rewind"]
