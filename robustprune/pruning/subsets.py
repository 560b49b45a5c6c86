"""Every set of blocks that can go together, and how deep a network is without them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product

from robustprune.pruning.blocks import Block
from robustprune.pruning.choice import Eligibility, blocks_that_stay, eligible_blocks

Subset = tuple[str, ...]
"""Blocks by name, in order of execution."""
Profile = tuple[int, ...]
"""A depth profile: how many blocks each stage keeps."""


def removable_subsets(blocks: Sequence[Block], eligibility: Eligibility = "paper") -> list[Subset]:
    """Return every set of blocks that can go together, the empty one first, then by their number."""
    eligible = eligible_blocks(blocks, eligibility)
    choices = []
    for stage in sorted({block.stage for block in eligible}):
        names = [block.name for block in eligible if block.stage == stage]
        size = next(block.stage_size for block in eligible if block.stage == stage)
        most = min(len(names), size - blocks_that_stay(eligibility))
        choices.append([each for count in range(most + 1) for each in combinations(names, count)])
    return sorted((sum(parts, ()) for parts in product(*choices)), key=len)


def kept_profile(blocks: Sequence[Block], removed: Sequence[str]) -> Profile:
    """Return how many blocks each stage keeps."""
    stages = sorted({block.stage for block in blocks})
    return tuple(sum(block.stage == stage and block.name not in removed for block in blocks) for stage in stages)


def write_profile(profile: Profile) -> str:
    """Return a depth profile for readers: ``3-2-3``."""
    return "-".join(map(str, profile))


def subsets_by_profile(blocks: Sequence[Block], eligibility: Eligibility = "paper") -> dict[Profile, list[Subset]]:
    """Return the sets of blocks that can go together, by how many blocks each stage keeps."""
    found: dict[Profile, list[Subset]] = {}
    for subset in removable_subsets(blocks, eligibility):
        found.setdefault(kept_profile(blocks, subset), []).append(subset)
    return found
