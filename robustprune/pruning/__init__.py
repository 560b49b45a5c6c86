"""Finding, ranking and removing residual blocks."""

from robustprune.pruning.blocks import Block, find_blocks, weight_layers
from robustprune.pruning.criteria import CRITERIA, Criterion, make_criterion
from robustprune.pruning.filters import first_convolutions
from robustprune.pruning.masks import Masks, apply_masks, check_masks, count_kept, find_masks, hash_masks
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
    "Masks",
    "RemovedBlock",
    "Residue",
    "apply_masks",
    "check_eligibility",
    "check_masks",
    "choose_blocks",
    "count_kept",
    "eligible_blocks",
    "find_blocks",
    "find_masks",
    "first_convolutions",
    "hash_masks",
    "ineligible_because",
    "make_criterion",
    "removable_together",
    "remove_blocks",
    "score_blocks",
    "score_filters",
    "score_weights",
    "weight_layers",
]
