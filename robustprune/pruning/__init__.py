"""Finding, ranking and removing residual blocks."""

from robustprune.pruning.blocks import Block, find_blocks, weight_layers
from robustprune.pruning.criteria import CRITERIA, Criterion, make_criterion
from robustprune.pruning.filters import first_convolutions
from robustprune.pruning.plan import (
    Eligibility,
    check_eligibility,
    choose_blocks,
    eligible_blocks,
    ineligible_because,
    removable_together,
)
from robustprune.pruning.scores import BlockScores, score_blocks, score_filters, score_weights
from robustprune.pruning.surgery import RemovedBlock, Residue, remove_blocks

__all__ = [
    "CRITERIA",
    "Block",
    "BlockScores",
    "Criterion",
    "Eligibility",
    "RemovedBlock",
    "Residue",
    "check_eligibility",
    "choose_blocks",
    "eligible_blocks",
    "find_blocks",
    "first_convolutions",
    "ineligible_because",
    "make_criterion",
    "removable_together",
    "remove_blocks",
    "score_blocks",
    "score_filters",
    "score_weights",
    "weight_layers",
]
