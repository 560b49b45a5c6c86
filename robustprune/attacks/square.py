"""Square attack: random search with square patches, without gradients (Andriushchenko et al. 2020, arXiv:1912.00049).

In L1 as Croce & Hein 2021 (arXiv:2103.01208, section 5) turn the search of L2: sums of sizes instead of squares, bumps
that fall off faster, and a patch of more mass than there is to spare, from which the nearest point within ball and box
is taken.

The patches of a query are the same for all samples, keyed by seed and restart, so that neither batch size nor
order nor the choice of a subset changes an outcome. A patch that leaves a sample as it is costs no forward pass, nor
does one that leads to an image that was looked at before: the margin kept only rises, so it would be refused again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.registry import for_norms
from robustprune.attacks.requests import above_zero, at_least_one
from robustprune.errors import AttackError
from robustprune.runtime.randomness import seeded_generator

# The share of pixels in a patch is halved after so many queries (of 10,000, section 5 there).
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


_POWERS = {"l2": 2, "l1": 1}
"""Of a pixel's size, its mass in a norm."""
_DECAYS = {2: 2, 1: 4}
"""Of a bump, by that power: its k-th rectangle adds 1/k^decay."""


_Patch = tuple[slice, slice]
"""Rows and columns."""


@for_norms("linf", "l2", "l1")
def attack(problem: AttackProblem, *, queries: int = 5000, first_share: float = 0.8, rescale: bool = False) -> None:
    """Propose stripes, then squares of falling size, keeping what raises the margin.

    The first of so many patches per sample, ``queries``, have ``first_share`` of the pixels. With ``rescale`` the size
    falls over the queries as it would over 10,000, instead of as after so many of these.
    """
    at_least_one("queries", queries)
    above_zero("first_share", first_share)
    if first_share > 1:
        raise AttackError(f"first_share must be above 0 and at most 1, got {first_share!r}")
    pixels = math.prod(_as_maps(problem.images).shape[2:])
    moments = (query * 10_000 // queries if rescale else query for query in range(queries))
    shares = (first_share / 2 ** sum(moment > bound for bound in HALVINGS) for moment in moments)
    sides = [round(math.sqrt(share * pixels)) for share in shares]
    (_search_linf if problem.norm == "linf" else _search_by_mass)(problem, sides)


def _search_linf(problem: AttackProblem, sides: Sequence[int]) -> None:
    """Run algorithm 2 there, with patches of these sides: every channel of a patch goes to +ε or −ε.

    So does every pixel of every image on the way, and the sum of the numbers of those at +ε is a key of the image:
    numbers are random of 63 bits, and two of a sample's images get one key with a probability below 1e-11.
    """
    rows, generator = problem.rows, problem.shared_generator()
    # Every pixel ε down and ε up, as far as the ball and [0, 1] reach.
    low, high = (_as_maps(each[rows]) for each in problem.bounds)
    channels, height, width = low.shape[1:]

    def stripes(stripe_generator: Generator, shape: torch.Size) -> Tensor:
        signs = _signs((channels, 1, width), stripe_generator)
        return signs.expand(channels, height, width).reshape(shape)

    best = torch.where(_as_maps(problem.draw(stripes)[rows]) > 0, high, low)
    losses = _ask(problem, rows, best)
    draws = torch.randint(-(2**62), 2**62, (channels, height, width), generator=seeded_generator("numbers of pixels"))
    numbers = draws.to(best.device)
    key = torch.zeros_like(rows)  # of the best image, less that of the first
    # Keys of all that were looked at, one column a query, and as many columns again for those to come. Zero is the key
    # of the first image, which all have seen.
    seen, n_seen = rows.new_zeros(len(rows), 1), 1
    for side in sides:
        rows, low, high, best, losses, key, seen = problem.narrow(rows, low, high, best, losses, key, seen)
        if len(rows) == 0:
            return
        down, across = _place(min(max(side, 1), height, width), height, width, generator)
        signs = _signs((channels, 1, 1), generator).to(best.device)
        window = torch.where(signs > 0, high[:, :, down, across], low[:, :, down, across])
        flips = window != best[:, :, down, across]
        keys = key + (flips * (signs.long() * numbers[:, down, across])).sum(dim=(1, 2, 3))
        which = (seen[:, :n_seen] != keys[:, None]).all(dim=1).nonzero().flatten()
        if len(which) == 0:
            # A query of others: the numbers of later ones do not depend on which samples are together.
            problem.queries += 1
            continue
        points = best[which]
        points[:, :, down, across] = window[which]
        better = _keep_better(problem, rows, which, points, best, losses)
        key[better] = keys[better]
        if n_seen == seen.shape[1]:
            seen = torch.cat([seen, torch.zeros_like(seen)], dim=1)
        seen[which, n_seen] = keys[which]
        n_seen += 1


def _search_by_mass(problem: AttackProblem, sides: Sequence[int]) -> None:
    """Run algorithm 3 there: the mass of one patch moves into another, shaped to be found by convolutions."""
    rows, generator, power = problem.rows, problem.shared_generator(), _POWERS[problem.norm]
    images = _as_maps(problem.images[rows])
    channels, height, width = images.shape[1:]
    if min(height, width) < 5:
        raise AttackError(
            f"in {problem.norm} the square attack needs images of at least 5 × 5 pixels, got {height} × {width}"
        )
    tile = min(height, width) // 5
    bump = _two_bumps(tile, power, generator)

    def grid(grid_generator: Generator, shape: torch.Size) -> Tensor:
        drawn = torch.zeros(channels, height, width)
        for top in range(0, height - tile + 1, tile):
            for left in range(0, width - tile + 1, tile):
                drawn[:, top : top + tile, left : left + tile] = bump * _signs((channels, 1, 1), grid_generator)
        return drawn.reshape(shape)

    best = _at_epsilon(problem, rows, images, _as_maps(problem.draw(grid)[rows]))
    losses = _ask(problem, rows, best)
    for side in sides:
        rows, images, best, losses = problem.narrow(rows, images, best, losses)
        if len(rows) == 0:
            return
        side = max(side, 3)
        side = min(side + 1 - side % 2, height, width)
        new, old = (_place(side, height, width, generator) for _ in range(2))
        points = _at_epsilon(problem, rows, images, _move_mass(problem, best - images, new, old, generator))
        _keep_better(problem, rows, torch.arange(len(rows), device=rows.device), points, best, losses)


def _move_mass(problem: AttackProblem, delta: Tensor, new: _Patch, old: _Patch, generator: Generator) -> Tensor:
    """Return perturbations (n, C, H, W) with the mass of an old patch in a new one."""
    power, channels = _POWERS[problem.norm], delta.shape[1]
    mask = torch.zeros_like(delta[:1])
    mask[:, :, new[0], new[1]] = mask[:, :, old[0], old[1]] = 1
    mass = _mass(delta * mask, power)  # (n, C, 1, 1)
    spare = (problem.epsilon**power - _mass(delta, power).sum(dim=1, keepdim=True)).clamp(min=0)
    signs = _signs((channels, 1, 1), generator).to(delta.device)
    shape = _two_bumps(new[0].stop - new[0].start, power, generator).to(delta.device) * signs
    shape = shape + _unit(delta[:, :, new[0], new[1]], power)
    size: Tensor = (spare / channels + mass) ** (1 / power)
    delta[:, :, old[0], old[1]] = 0
    delta[:, :, new[0], new[1]] = _unit(shape, power) * (size if power == 2 else channels * size)
    return delta


def _at_epsilon(problem: AttackProblem, rows: Tensor, images: Tensor, delta: Tensor) -> Tensor:
    if problem.norm == "l1":
        points = (images + delta).reshape(len(rows), *problem.images.shape[1:])
        return problem.shorten(rows, points, problem.epsilon).reshape(images.shape)
    sizes = delta.square().sum(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1e-12)
    return (images + problem.epsilon * delta / sizes).clamp(0, 1)


def _ask(problem: AttackProblem, rows: Tensor, maps: Tensor) -> Tensor:
    """Return margins (n,) at points given as maps (n, C, H, W)."""
    points = maps.reshape(len(rows), *problem.images.shape[1:])
    return problem.ask(rows, points, "margin", gradient=False).losses


def _keep_better(
    problem: AttackProblem, rows: Tensor, which: Tensor, points: Tensor, best: Tensor, losses: Tensor
) -> Tensor:
    """Ask about points of samples ``which`` (m,), keep those of higher margin, and return whose these are."""
    found = _ask(problem, rows[which], points)
    is_better = found > losses[which]
    better = which[is_better]
    best[better], losses[better] = points[is_better], found[is_better]
    return better


def _place(side: int, height: int, width: int, generator: Generator) -> _Patch:
    """Return where a square of this side falls."""
    top = int(torch.randint(0, height - side + 1, (), generator=generator))
    left = int(torch.randint(0, width - side + 1, (), generator=generator))
    return slice(top, top + side), slice(left, left + side)


def _two_bumps(side: int, power: int, generator: Generator) -> Tensor:
    """Return (side, side) of norm 1: a positive bump beside a negative one, across or down (figure 3 there)."""
    half, decay = side // 2, _DECAYS[power]
    halves = [sign * _bump(length, side, decay) for sign, length in ((1, half), (-1, side - half)) if length]
    both = torch.cat(halves)
    both = _unit(both[None, None], power)[0, 0]
    return both.T if int(torch.randint(0, 2, (), generator=generator)) else both


def _bump(height: int, width: int, decay: int) -> Tensor:
    """Return nested rectangles around the centre that grow by one pixel on each side, the k-th adding 1/k^decay."""
    found = torch.zeros(height, width)
    top, left = height // 2, width // 2
    for layer in range(max(top, left) + 1):
        length = 2 * layer + 1
        rows = slice(max(top - layer, 0), min(top - layer + length, height))
        columns = slice(max(left - layer, 0), min(left - layer + length, width))
        found[rows, columns] += 1 / (layer + 1) ** decay
    return found


def _mass(maps: Tensor, power: int) -> Tensor:
    """Return the mass (n, C, 1, 1) of each channel of maps (n, C, h, w)."""
    return (maps.square() if power == 2 else maps.abs()).sum(dim=(2, 3), keepdim=True)


def _unit(maps: Tensor, power: int) -> Tensor:
    """Return maps (n, C, h, w) of norm 1 per channel; zero stays zero."""
    return maps / (_mass(maps, power) ** (1 / power)).clamp(min=1e-12)


def _signs(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.randint(0, 2, shape, generator=generator).float() * 2 - 1


def _as_maps(images: Tensor) -> Tensor:
    """Return images (n, …) as (n, C, H, W)."""
    shape = images.shape[1:]
    if len(shape) > 3:
        raise AttackError(f"the square attack needs images (C, H, W), got shape {tuple(shape)}")
    return images.reshape(len(images), *([1] * (3 - len(shape))), *shape)
