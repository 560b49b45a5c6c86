"""Square attack: random search with square patches, without gradients (Andriushchenko et al. 2020, arXiv:1912.00049).

The patches of a query are the same for all samples, keyed by seed and restart, so that neither batch size nor
order nor the choice of a subset changes an outcome. A patch that leaves a sample as it is costs no forward pass, nor
does one that leads to an image that was looked at before: the margin kept only rises, so it would be refused again.
Of the network's first layers only what a patch reaches is computed.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from robustprune.attacks.engine.nearby import Look, Nearby
from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.engine.settings import at_least_one
from robustprune.attacks.registry import for_norms
from robustprune.errors import AttackError
from robustprune.runtime.randomness import seeded_generator

# The share of pixels in a patch is halved after so many queries (of 10,000, section 5 there).
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@for_norms("linf", "l2")
def attack(problem: AttackProblem, *, queries: int = 5000, first_share: float = 0.8, rescale: bool = False) -> None:
    """Propose stripes, then squares of falling size, keeping what raises the margin.

    Args:
        problem: The samples.
        queries: Patches per sample.
        first_share: The share of pixels in the first patches.
        rescale: Let the size fall over ``queries`` as it would over 10,000, instead of as after so many of these.

    Raises:
        AttackError: In L2, the images are less than 5 pixels wide or high.
    """
    at_least_one("queries", queries)
    if not 0 < first_share <= 1:
        raise AttackError(f"first_share must be above 0 and at most 1, got {first_share!r}")
    kind = {"linf": _LinfSearch, "l2": _L2Search}[problem.norm]
    for query, state in problem.steps(queries, lambda saved: kind(problem, saved)):
        if not state.narrow():
            return
        state.try_patch(_side(query * 10_000 // queries if rescale else query, first_share, state.pixels))


def _side(query: int, first_share: float, pixels: int) -> int:
    share = first_share / 2 ** sum(query > bound for bound in HALVINGS)
    return round(math.sqrt(share * pixels))


class _Search:
    """The best points so far of the samples still active, as (n, C, H, W)."""

    def __init__(self, problem: AttackProblem, saved: dict[str, Tensor] | None) -> None:
        self.problem = problem
        self.rows = problem.rows if saved is None else saved["rows"]
        self.images = _as_maps(problem.images[self.rows])
        self.height, self.width = self.images.shape[2:]
        self.pixels = self.height * self.width
        self.generator = problem.shared_generator()
        if saved is None:
            self.best = self.start()
            self.losses = self.ask(self.rows, self.best)
        else:
            self.best, self.losses = saved["best"], saved["losses"]
            self.generator.set_state(saved["generator"].cpu())

    def tensors(self) -> dict[str, Tensor]:
        """Return all that changes, by name."""
        kept = {"rows": self.rows, "best": self.best, "losses": self.losses}
        return kept | {"generator": self.generator.get_state()}

    def start(self) -> Tensor:
        """Return the first points."""
        raise NotImplementedError

    def ask(self, rows: Tensor, points: Tensor, look: Look | None = None) -> Tensor:
        """Return margins (n,) at points."""
        shape = (len(rows), *self.problem.images.shape[1:])
        return self.problem.ask(rows, points.reshape(shape), "margin", gradient=False, look=look).losses

    def try_patch(self, side: int) -> None:
        """Propose a patch of this side."""
        raise NotImplementedError

    def narrow(self) -> bool:
        """Drop broken samples; return whether any are left."""
        left = self.problem.active[self.rows]
        if not bool(left.all()):
            self.keep(left)
        return len(self.rows) > 0

    def keep(self, left: Tensor) -> None:
        """Go on with some of the samples (n,)."""
        self.rows, self.images = self.rows[left], self.images[left]
        self.best, self.losses = self.best[left], self.losses[left]

    def keep_better(self, which: Tensor, points: Tensor, look: Look | None = None) -> Tensor:
        """Ask about points of samples ``which`` (m,), keep those of higher margin, and return whose these are."""
        if len(which) == 0:
            # A query of others: the numbers of later ones do not depend on which samples are together.
            self.problem.queries += 1
            return which
        losses = self.ask(self.rows[which], points, look)
        is_better = losses > self.losses[which]
        better = which[is_better]
        self.best[better], self.losses[better] = points[is_better], losses[is_better]
        return better

    def place(self, side: int) -> tuple[slice, slice]:
        """Return where a square of this side falls."""
        top = int(torch.randint(0, self.height - side + 1, (), generator=self.generator))
        left = int(torch.randint(0, self.width - side + 1, (), generator=self.generator))
        return slice(top, top + side), slice(left, left + side)


class _LinfSearch(_Search):
    """Algorithm 2 there: every channel of a patch goes to +ε or −ε.

    So does every pixel of every image on the way, and the sum of the numbers of those at +ε is a key of the image:
    numbers are random of 63 bits, and two of a sample's images get one key with a probability below 1e-11.
    """

    def __init__(self, problem: AttackProblem, saved: dict[str, Tensor] | None) -> None:
        rows = problem.rows if saved is None else saved["rows"]
        # Every pixel ε down and ε up, as far as the ball and [0, 1] reach.
        self.low, self.high = (_as_maps(each[rows]) for each in problem.ball.bounds)
        super().__init__(problem, saved)
        shape = self.images.shape[1:]
        draws = torch.randint(-(2**62), 2**62, tuple(shape), generator=seeded_generator("numbers of pixels"))
        self.numbers = draws.to(self.images.device)
        self.nearby = Nearby(problem)
        if saved is None:
            self.key = torch.zeros_like(self.rows)  # of the best image, less that of the first
            self.seen = self.rows.new_zeros(len(self.rows), 1)  # keys of all that were looked at, one column a query
        else:
            self.key, self.seen = saved["key"], saved["seen"]
        self.n_seen = self.seen.shape[1]  # columns in use: of those to come there are as many again

    def tensors(self) -> dict[str, Tensor]:
        """Return all that changes, by name."""
        return super().tensors() | {"key": self.key, "seen": self.seen[:, : self.n_seen]}

    def keep(self, left: Tensor) -> None:
        """Go on with some of the samples (n,)."""
        super().keep(left)
        self.low, self.high = self.low[left], self.high[left]
        self.key, self.seen = self.key[left], self.seen[left]

    def start(self) -> Tensor:
        """Return images under vertical stripes of ±ε."""

        def stripes(generator: Generator, shape: torch.Size) -> Tensor:
            channels, _, width = _map_shape(shape)
            signs = _signs((channels, 1, width), generator)
            return signs.expand(_map_shape(shape)).reshape(shape)

        drawn = _as_maps(self.problem.draw(stripes)[self.rows])
        return torch.where(drawn > 0, self.high, self.low)

    def try_patch(self, side: int) -> None:
        """Propose a square of this side."""
        side = min(max(side, 1), self.height, self.width)
        down, across = self.place(side)
        signs = _signs((self.images.shape[1], 1, 1), self.generator).to(self.images.device)
        window = torch.where(signs > 0, self.high[:, :, down, across], self.low[:, :, down, across])
        flips = window != self.best[:, :, down, across]
        keys = self.key + (flips * (signs.long() * self.numbers[:, down, across])).sum(dim=(1, 2, 3))
        which = (self.seen[:, : self.n_seen] != keys[:, None]).all(dim=1).nonzero().flatten()
        points = self.best[which]
        points[:, :, down, across] = window[which]
        better = self.keep_better(which, points, self.nearby.look(self.rows, self.best, (down, across)))
        self.nearby.keep(self.rows[better], self.best[better])
        self.key[better] = keys[better]
        if len(which):
            if self.n_seen == self.seen.shape[1]:
                # Zero is the key of the first image, which all have seen.
                self.seen = torch.cat([self.seen, torch.zeros_like(self.seen)], dim=1)
            self.seen[which, self.n_seen] = keys[which]
            self.n_seen += 1


class _L2Search(_Search):
    """Algorithm 3 there: the mass of one patch moves into another, shaped to be found by convolutions."""

    def start(self) -> Tensor:
        """Return images under a grid of bumps with random signs."""
        if min(self.height, self.width) < 5:
            raise AttackError(
                f"in l2 the square attack needs images of at least 5 × 5 pixels, got {self.height} × {self.width}"
            )
        tile = min(self.height, self.width) // 5
        bump = _two_bumps(tile, self.generator)

        def grid(generator: Generator, shape: torch.Size) -> Tensor:
            channels, height, width = _map_shape(shape)
            drawn = torch.zeros(channels, height, width)
            for top in range(0, height - tile + 1, tile):
                for left in range(0, width - tile + 1, tile):
                    drawn[:, top : top + tile, left : left + tile] = bump * _signs((channels, 1, 1), generator)
            return drawn.reshape(shape)

        drawn = _as_maps(self.problem.draw(grid)[self.rows])
        return self._scaled(drawn, self.images)

    def try_patch(self, side: int) -> None:
        """Propose to move mass into a square of this side."""
        side = max(side, 3)
        side = min(side + 1 - side % 2, self.height, self.width)
        delta = self.best - self.images
        new, old = self.place(side), self.place(side)
        mask = torch.zeros_like(delta[:1])
        mask[:, :, new[0], new[1]] = mask[:, :, old[0], old[1]] = 1
        mass = (delta * mask).square().sum(dim=(2, 3), keepdim=True)  # (n, C, 1, 1)
        spare = (self.problem.epsilon**2 - delta.square().sum(dim=(1, 2, 3), keepdim=True)).clamp(min=0)
        signs = _signs((delta.shape[1], 1, 1), self.generator).to(delta.device)
        shape = _two_bumps(side, self.generator).to(delta.device) * signs
        shape = shape + _unit(delta[:, :, new[0], new[1]])
        delta[:, :, old[0], old[1]] = 0
        delta[:, :, new[0], new[1]] = _unit(shape) * (spare / delta.shape[1] + mass).sqrt()
        self.keep_better(torch.arange(len(self.rows), device=delta.device), self._scaled(delta, self.images))

    def _scaled(self, delta: Tensor, images: Tensor) -> Tensor:
        sizes = delta.square().sum(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1e-12)
        return (images + self.problem.epsilon * delta / sizes).clamp(0, 1)


def _two_bumps(side: int, generator: Generator) -> Tensor:
    """Return (side, side) of L2 norm 1: a positive bump beside a negative one, across or down (figure 3 there)."""
    half = side // 2
    halves = [sign * _bump(length, side) for sign, length in ((1, half), (-1, side - half)) if length]
    both = torch.cat(halves)
    both = both / both.square().sum().sqrt()
    return both.T if int(torch.randint(0, 2, (), generator=generator)) else both


def _bump(height: int, width: int) -> Tensor:
    """Return nested rectangles around the centre that grow by one pixel on each side, the k-th adding 1/k²."""
    found = torch.zeros(height, width)
    top, left = height // 2, width // 2
    for layer in range(max(top, left) + 1):
        length = 2 * layer + 1
        rows = slice(max(top - layer, 0), min(top - layer + length, height))
        columns = slice(max(left - layer, 0), min(left - layer + length, width))
        found[rows, columns] += 1 / (layer + 1) ** 2
    return found


def _unit(maps: Tensor) -> Tensor:
    """Return maps (n, C, h, w) of norm 1 per channel; zero stays zero."""
    sizes: Tensor = maps.square().sum(dim=(2, 3), keepdim=True).sqrt()
    return maps / sizes.clamp(min=1e-12)


def _signs(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.randint(0, 2, shape, generator=generator).float() * 2 - 1


def _map_shape(shape: torch.Size) -> tuple[int, int, int]:
    channels, height, width = (*([1] * (3 - len(shape))), *shape)
    return channels, height, width


def _as_maps(images: Tensor) -> Tensor:
    if images.ndim > 4:
        raise AttackError(f"the square attack needs images (C, H, W), got shape {tuple(images.shape[1:])}")
    return images.reshape(len(images), *_map_shape(images.shape[1:]))
