"""Finding, ranking and removing residual blocks, and filters within them."""

from robustprune.pruning.blocks import BRANCH_NAMES, Block, Blocks, Unit, check_unit, find_blocks, weight_layers
from robustprune.pruning.choice import (
    Choice,
    Eligibility,
    FilterVariant,
    check_eligibility,
    choose_blocks,
    eligible_blocks,
    ineligible_because,
    named_blocks,
    removable_together,
)
from robustprune.pruning.criteria import CRITERIA, Criterion
from robustprune.pruning.criteria.by_name import criterion_class, make_criterion, named_criterion
from robustprune.pruning.filter_surgery import prunable_convolutions, remove_filters
from robustprune.pruning.masks import (
    Masks,
    apply_masks,
    check_masks,
    count_kept,
    find_masks,
    hash_masks,
    maskable_weights,
)
from robustprune.pruning.residue import RemovedBlock, Residue
from robustprune.pruning.scoring import BlockScores, FilterScores, score_blocks, score_filters, score_weights
from robustprune.pruning.searches import SEARCHES, Search, SearchSpace, fewest_of_ranking, make_search, spell_search
from robustprune.pruning.subsets import (
    Profile,
    Subset,
    kept_profile,
    removable_subsets,
    subsets_by_profile,
    write_profile,
)
from robustprune.pruning.surgery import remove_blocks
from robustprune.pruning.ticket_scores import TicketScores, judge_tickets, score_tickets

__all__ = [
    "BRANCH_NAMES",
    "CRITERIA",
    "SEARCHES",
    "Block",
    "BlockScores",
    "Blocks",
    "Choice",
    "Criterion",
    "Eligibility",
    "FilterScores",
    "FilterVariant",
    "Masks",
    "Profile",
    "RemovedBlock",
    "Residue",
    "Search",
    "SearchSpace",
    "Subset",
    "TicketScores",
    "Unit",
    "apply_masks",
    "check_eligibility",
    "check_masks",
    "check_unit",
    "choose_blocks",
    "count_kept",
    "criterion_class",
    "eligible_blocks",
    "fewest_of_ranking",
    "find_blocks",
    "find_masks",
    "hash_masks",
    "ineligible_because",
    "judge_tickets",
    "kept_profile",
    "make_criterion",
    "make_search",
    "maskable_weights",
    "named_blocks",
    "named_criterion",
    "prunable_convolutions",
    "removable_subsets",
    "removable_together",
    "remove_blocks",
    "remove_filters",
    "score_blocks",
    "score_filters",
    "score_tickets",
    "score_weights",
    "spell_search",
    "subsets_by_profile",
    "weight_layers",
    "write_profile",
]
