"""From a network and scores, or a criterion, to a ticket."""

from robustprune.prune.filters import prune_filters
from robustprune.prune.layers import prune_layers
from robustprune.prune.weights import prune_weights

__all__ = ["prune_filters", "prune_layers", "prune_weights"]
