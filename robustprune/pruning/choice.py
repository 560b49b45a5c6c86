"""What goes: of blocks the least important that may go together, of filters the least important or a share of each.

Blocks are chosen by a walk along their ranking, or by a control of it. So are filters, one more at a time, so that a
matching ticket can stop where it is closest.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import islice, pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from robustprune.errors import PruningError
from robustprune.pruning.blocks import Block, removable_blocks
from robustprune.pruning.scoring import FilterScores
from robustprune.registry import suggest
from robustprune.runtime.randomness import seeded_generator

Eligibility = Literal["paper", "strict", "identity"]
Choice = Literal["lowest", "highest", "random-per-stage"]
"""Which blocks of a ranking go, see :func:`choose_blocks`; all but ``lowest`` are controls of it."""


def check_eligibility(eligibility: str) -> Eligibility:
    """Return the eligibility if there is one of that name."""
    if eligibility not in get_args(Eligibility):
        known = ", ".join(get_args(Eligibility))
        raise PruningError(f"there is no eligibility {eligibility!r}; choose one of {known}")
    return eligibility  # type: ignore[return-value]


def ineligible_because(block: Block, blocks: Sequence[Block], eligibility: Eligibility) -> str | None:
    """Return why a block may not go, or None if it may.

    ``identity`` lets every block go that leaves the identity. ``paper`` keeps the first block of each stage
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
    """Return how many blocks can go at once: ``paper`` and ``strict`` leave two in every stage."""
    eligible = Counter(block.stage for block in eligible_blocks(blocks, eligibility))
    sizes = {block.stage: block.stage_size for block in blocks}
    return sum(min(count, sizes[stage] - blocks_that_stay(eligibility)) for stage, count in eligible.items())


def choose_blocks(
    blocks: Sequence[Block],
    scores: Mapping[str, float],
    count: int,
    eligibility: Eligibility = "paper",
    *,
    choice: Choice = "lowest",
    seed: int = 0,
) -> tuple[Block, ...]:
    """Return ``count`` blocks that can go together, in order of removal: the least important ones, or a control.

    The ranking over all eligible blocks is walked from the least important; a block whose stage is down to
    its minimum is passed over. Equal scores are broken by depth, the later block going first.

    Args:
        blocks: All blocks of the network.
        scores: Block name → importance, at least of those that are eligible.
        count: How many go.
        eligibility: Which may go.
        choice: ``highest`` walks the ranking from the most important block. ``random-per-stage`` takes as many blocks
            of each stage as ``lowest`` does, at random: what the ranking adds beyond the depth of each stage is the
            difference (Su et al. 2020, "Sanity-checking pruning methods", ask the same of single weights).
        seed: Of what is random, and of nothing else: rankings that take as many blocks of each stage have one control.

    Raises:
        PruningError: More blocks than can go, or a score that is missing or not finite.
    """
    if choice not in get_args(Choice):
        raise PruningError(f"there is no choice {choice!r} of blocks; take one of {', '.join(get_args(Choice))}")
    eligible = eligible_blocks(blocks, eligibility)
    most = removable_together(blocks, eligibility)
    if count < 1:
        raise PruningError(f"asked for {count} blocks; the least that can be removed is 1")
    if count > most:
        removable_blocks(blocks)
        advice = [f"--blocks {most}"] * bool(most) + ["--eligibility identity"] * (eligibility != "identity")
        raise PruningError(
            f"asked for {count} blocks, {f'at most {most}' if most else 'none'} can go: {len(eligible)} of the "
            f"network's {len(blocks)} blocks are eligible under {eligibility!r}, which leaves at least "
            f"{blocks_that_stay(eligibility)} in each stage; use {' or '.join(advice)}"
        )
    for block in eligible:
        if not math.isfinite(scores.get(block.name, math.nan)):
            found = scores.get(block.name, "missing")
            raise PruningError(f"the score of block {block.name} is {found}; every score must be a finite number")
    sign = -1 if choice == "highest" else 1
    ranking = sorted(eligible, key=lambda block: (sign * scores[block.name], -block.depth))
    may_go = {block.stage: block.stage_size - blocks_that_stay(eligibility) for block in blocks}
    chosen = _walk(ranking, may_go, count)
    if choice != "random-per-stage":
        return chosen
    order = torch.randperm(len(eligible), generator=seeded_generator(seed, "random per stage")).tolist()
    return _walk([eligible[place] for place in order], Counter(block.stage for block in chosen), count)


def named_blocks(blocks: Sequence[Block], names: Collection[str]) -> tuple[Block, ...]:
    """Return the blocks of these names, in order of execution.

    Raises:
        PruningError: A name of no block, of one that cannot go, or none at all.
    """
    removable = {block.name: block for block in removable_blocks(blocks)}
    known = {block.name: block for block in blocks}
    if isinstance(names, str) or not names:
        raise PruningError(f"name the blocks that go in a list, such as [{next(iter(removable))!r}]")
    for name in names:
        if name not in known:
            raise PruningError(f"the network has no block {name!r}.{suggest(name, known)} See `robustprune blocks`.")
        if name not in removable:
            raise PruningError(f"block {name} has to stay: it {ineligible_because(known[name], blocks, 'identity')}")
    return tuple(block for name, block in removable.items() if name in names)


def _walk(ranking: Sequence[Block], may_go: Mapping[int, int], count: int) -> tuple[Block, ...]:
    """Return the first ``count`` blocks of a ranking, but for those of a stage that so many of it have left."""
    left = Counter(may_go)
    chosen: list[Block] = []
    for block in ranking:
        if len(chosen) < count and left[block.stage] > 0:
            left[block.stage] -= 1
            chosen.append(block)
    return tuple(chosen)


def blocks_that_stay(eligibility: Eligibility) -> int:
    """Return how many blocks of each stage stay at least."""
    return 0 if eligibility == "identity" else 2


FilterVariant = Literal["global", "uniform"]

Counts = dict[str, int]
"""Convolution → how many of its filters go."""


def check_filter_scores(model: nn.Module, blocks: Sequence[Block], scores: Mapping[str, Tensor]) -> None:
    """Check that there is one finite score for every filter of at most one convolution of each block."""
    modules = dict(model.named_modules())
    taken: dict[str, str] = {}
    for name, values in scores.items():
        module = modules.get(name)
        block = next((block.name for block in blocks if name.startswith(f"{block.name}.")), None)
        if block is None or not isinstance(module, nn.modules.conv._ConvNd):
            problem = f"of {name!r}, which is no convolution in a block of this network"
        elif values.shape != (module.out_channels,):
            problem = (
                f"of shape {tuple(values.shape)} for {name}, which has {module.out_channels} filters; score the very "
                "network that is pruned"
            )
        elif not bool(values.isfinite().all()):
            problem = f"that are not finite for filters of {name}, which cannot be ranked"
        elif taken.setdefault(block, name) != name:
            problem = (
                f"of {taken[block]} and {name}, two convolutions of one block; only its first one's filters can go on "
                "their own"
            )
        else:
            continue
        raise PruningError(f"there are scores {problem}")


def filter_walk(scores: FilterScores, variant: FilterVariant = "global") -> Iterator[Counts]:
    """Yield how many filters of each convolution go when 1, 2, 3, … go in total; a last filter never does.

    ``global`` follows one ranking over all filters. ``uniform`` takes the largest equal share of every convolution's
    filters that does not exceed the total, then one more from convolutions at random, in an order that the
    scores' seed decides. Within a convolution the least important go first, see :func:`least_important`.
    """
    walks = {"global": _globally, "uniform": _uniformly}
    if variant not in walks:
        raise PruningError(f"there is no variant {variant!r} of filter pruning; choose one of {', '.join(walks)}")
    return walks[variant](scores)


def filter_counts(scores: FilterScores, variant: FilterVariant, count: int) -> Counts:
    """Return how many filters of each convolution go when ``count`` go in total."""
    most = sum(len(values) - 1 for values in scores.values())
    if not 1 <= count <= most:
        raise PruningError(
            f"asked for {count} filters, from 1 to {most} can go: {len(scores)} convolutions with "
            f"{most + len(scores)} filters, of which each keeps at least one"
        )
    return next(islice(filter_walk(scores, variant), count - 1, None))


def least_important(scores: Mapping[str, Tensor], counts: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Return the filters that go, in ascending order; of equal scores the later filter goes first."""
    found = {}
    for name, count in counts.items():
        ranking = sorted((value, -index) for index, value in enumerate(scores[name].tolist()))
        if count:
            found[name] = tuple(sorted(-index for _, index in ranking[:count]))
    return found


def _globally(scores: FilterScores) -> Iterator[Counts]:
    ranking = sorted(
        (value, -depth, -index, name)  # of equal scores the deeper convolution's, then the later filter goes first
        for depth, (name, values) in enumerate(scores.items())
        for index, value in enumerate(values.tolist())
    )
    counts = dict.fromkeys(scores, 0)
    for *_, name in ranking:
        if counts[name] < len(scores[name]) - 1:
            counts[name] += 1
            yield dict(counts)


def _uniformly(scores: FilterScores) -> Iterator[Counts]:
    most = {name: len(values) - 1 for name, values in scores.items()}
    names = list(scores)
    order = torch.randperm(len(names), generator=seeded_generator(scores.seed, "uniform filters")).tolist()
    # Between two of these shares no convolution loses a filter.
    shares = sorted({Fraction(count, len(v)) for v in scores.values() for count in range(len(v) + 1)})
    levels = [{name: min(int(share * (most[name] + 1)), most[name]) for name in names} for share in shares]
    for level, following in pairwise(levels):
        counts = dict(level)
        unfinished = [names[place] for place in order if level[names[place]] < most[names[place]]]
        for name in unfinished[: sum(following.values()) - sum(level.values()) - 1]:
            counts[name] += 1
            yield dict(counts)
        if following != level:
            yield dict(following)
