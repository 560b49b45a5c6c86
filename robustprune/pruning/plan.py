"""What goes: eligibility, the ranking, and the walk along it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from robustprune.errors import PruningError
from robustprune.pruning.blocks import Block

Eligibility = Literal["authors", "strict", "identity"]


def check_eligibility(eligibility: str) -> Eligibility:
    """Return the eligibility if there is one of that name.

    Raises:
        PruningError: There is none.
    """
    if eligibility not in get_args(Eligibility):
        known = ", ".join(get_args(Eligibility))
        raise PruningError(f"there is no eligibility {eligibility!r}; choose one of {known}")
    return eligibility  # type: ignore[return-value]


def ineligible_because(block: Block, blocks: Sequence[Block], eligibility: Eligibility) -> str | None:
    """Return why a block may not go, or None if it may.

    ``identity`` lets every block go that leaves the identity. ``authors`` keeps the first block of each stage
    too; ``strict`` also the last one before the next stage.
    """
    if block.obstacle is not None:
        return block.obstacle
    if block.residue is None:
        return "changes the shape, or leaves more than its input"
    if eligibility != "identity" and block.position == 0:
        return "first block of its stage"
    last_stage = max(other.stage for other in blocks)
    if eligibility == "strict" and block.position == block.stage_size - 1 and block.stage != last_stage:
        return "last block before the next stage"
    return None


def eligible_blocks(blocks: Sequence[Block], eligibility: Eligibility) -> tuple[Block, ...]:
    """Return the blocks that may go, one at a time."""
    return tuple(block for block in blocks if ineligible_because(block, blocks, eligibility) is None)


def removable_together(blocks: Sequence[Block], eligibility: Eligibility) -> int:
    """Return how many blocks can go at once: ``authors`` and ``strict`` leave two in every stage."""
    eligible = Counter(block.stage for block in eligible_blocks(blocks, eligibility))
    sizes = {block.stage: block.stage_size for block in blocks}
    return sum(min(count, sizes[stage] - _stays(eligibility)) for stage, count in eligible.items())


def choose_blocks(
    blocks: Sequence[Block], scores: Mapping[str, float], count: int, eligibility: Eligibility = "authors"
) -> tuple[Block, ...]:
    """Return the ``count`` least important blocks that can go together, in order of removal.

    The ranking over all eligible blocks is walked from the least important; a block whose stage is down to
    its minimum is passed over. Equal scores are broken by depth, the later block going first.

    Raises:
        PruningError: More blocks than can go, or a score that is missing or not finite.
    """
    eligible = eligible_blocks(blocks, eligibility)
    most = removable_together(blocks, eligibility)
    if count < 1:
        raise PruningError(f"asked for {count} blocks; the least that can be removed is 1")
    if count > most:
        advice = "" if eligibility == "identity" else " or --eligibility identity"
        raise PruningError(
            f"asked for {count} blocks, at most {most} can go: {len(eligible)} of the network's {len(blocks)} "
            f"blocks are eligible under {eligibility!r}, which leaves at least {_stays(eligibility)} in each "
            f"stage; use --blocks {most}{advice}"
            if most
            else f"asked for {count} blocks, none can go under eligibility {eligibility!r} ({len(blocks)} blocks "
            f"in stages of {sorted({block.stage_size for block in blocks})}); "
            + (_obstacle(blocks) or "use --eligibility identity")
        )
    for block in eligible:
        if not math.isfinite(scores.get(block.name, math.nan)):
            found = scores.get(block.name, "missing")
            raise PruningError(f"the score of block {block.name} is {found}; every score must be a finite number")
    ranking = sorted(eligible, key=lambda block: (scores[block.name], -block.depth))
    left = {block.stage: block.stage_size for block in blocks}
    chosen: list[Block] = []
    for block in ranking:
        if len(chosen) < count and left[block.stage] > _stays(eligibility):
            left[block.stage] -= 1
            chosen.append(block)
    return tuple(chosen)


def check_removable(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Return the blocks that can go, whatever the eligibility.

    Raises:
        PruningError: None can.
    """
    removable = tuple(block for block in blocks if block.residue is not None)
    if not removable:
        raise PruningError(f"no block of this network can be removed: {_obstacle(blocks)}")
    return removable


def _obstacle(blocks: Sequence[Block]) -> str | None:
    """Return why none of the blocks can go though some leave the identity; None where one can."""
    stuck = [block for block in blocks if block.obstacle is not None]
    if not stuck or any(block.residue is not None for block in blocks):
        return None
    others = f" (and so for {len(stuck) - 1} more)" if len(stuck) > 1 else ""
    return f"block {stuck[0].name} has to stay, as {stuck[0].obstacle}{others}"


def _stays(eligibility: Eligibility) -> int:
    return 0 if eligibility == "identity" else 2
