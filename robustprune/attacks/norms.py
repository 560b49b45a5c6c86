"""Everything about an attack that depends on the norm: one row of functions per norm.

All functions work on perturbations (N, …), sample by sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from robustprune.errors import AttackError
from robustprune.registry import suggest

Radius = float | Tensor
"""Of the balls around all samples, or (N,) of that around each."""


@dataclass(frozen=True)
class Norm:
    """What an attack needs to know of a norm.

    Attributes:
        name: As in ``run_attack(norm=…)``.
        size: Perturbations (N, …) → their norms (N,), in the type of the perturbation.
        project: Perturbations (N, …), ε, of all or (N,) of each → the nearest ones (N, …) of norm at most ε.
        steepest: Gradients (N, …) → directions (N, …) of norm 1 along which the loss rises fastest; a
            gradient of zero has none and gives zero.
        draw: Generator, shape of one sample, ε → one perturbation drawn uniformly from the ball, on the CPU.
        widest: Entries of a sample → the largest norm that a perturbation within the box has.
        dual: Name of the dual norm, that of a gradient being how fast the loss can rise.
    """

    name: str
    size: Callable[[Tensor], Tensor]
    project: Callable[[Tensor, Radius], Tensor]
    steepest: Callable[[Tensor], Tensor]
    draw: Callable[[Generator, torch.Size, float], Tensor]
    widest: Callable[[int], float]
    dual: str


def _size_linf(delta: Tensor) -> Tensor:
    return delta.flatten(1).abs().amax(dim=1)


def _project_linf(delta: Tensor, epsilon: Radius) -> Tensor:
    if not isinstance(epsilon, Tensor):
        return delta.clamp(-epsilon, epsilon)
    bounds = over_samples(epsilon, delta)
    return delta.clamp(-bounds, bounds)


def _draw_linf(generator: Generator, shape: torch.Size, epsilon: float) -> Tensor:
    return (2 * torch.rand(shape, generator=generator) - 1) * epsilon


def _size_l2(delta: Tensor) -> Tensor:
    scaled, scale = _scaled(delta)
    size: Tensor = torch.linalg.vector_norm(scaled.flatten(1), dim=1) * scale
    return size


def _project_l2(delta: Tensor, epsilon: Radius) -> Tensor:
    size = _size_l2(delta)
    # A number over a tensor would be computed as its reciprocal, which overflows for the smallest sizes.
    bound = epsilon if isinstance(epsilon, Tensor) else torch.full_like(size, epsilon)
    factor = torch.where(size > bound, bound / size, torch.ones_like(size))
    return delta * over_samples(factor, delta)


def _steepest_l2(gradient: Tensor) -> Tensor:
    scaled, _ = _scaled(gradient)
    size = torch.linalg.vector_norm(scaled.flatten(1), dim=1)
    # With an entry of ±1 the norm is at least 1, unless all is zero.
    return scaled / over_samples(size.clamp(min=1), gradient)


def _draw_l2(generator: Generator, shape: torch.Size, epsilon: float) -> Tensor:
    direction = torch.randn(shape, generator=generator)
    # The volume within radius r grows as r^d, so a uniform point has radius u^(1/d).
    radius = torch.rand((), generator=generator) ** (1 / direction.numel())
    delta: Tensor = direction / torch.linalg.vector_norm(direction) * radius * epsilon
    return delta


def _size_l1(delta: Tensor) -> Tensor:
    return delta.flatten(1).abs().sum(dim=1)


def _project_l1(delta: Tensor, epsilon: Radius) -> Tensor:
    """Shrink all entries by one threshold per sample, found by sorting (Duchi et al. 2008, figure 1)."""
    sizes = delta.flatten(1).abs()  # (N, D)
    bound = epsilon[:, None] if isinstance(epsilon, Tensor) else epsilon
    falling, _ = sizes.sort(dim=1, descending=True)
    excess = falling.cumsum(dim=1) - bound
    counts = torch.arange(1, sizes.shape[1] + 1, device=delta.device)
    last = (falling * counts > excess).sum(dim=1, keepdim=True).clamp(min=1)
    threshold = (excess.gather(1, last - 1) / last).clamp(min=0)
    kept = (sizes - threshold).clamp(min=0)
    # Sums of many rounded numbers may still come out a little long.
    kept = kept * (bound / kept.sum(dim=1, keepdim=True).clamp(min=1e-30)).clamp(max=1)
    return delta.sign() * kept.reshape(delta.shape)


def _steepest_l1(gradient: Tensor) -> Tensor:
    """Spread over the twentieth of the entries with the largest gradients (SLIDE, Tramèr & Boneh 2019).

    The single largest entry alone would be steepest, and hit the box at once.
    """
    entries = gradient.flatten(1).shape[1]
    return spread(gradient, gradient.new_full((len(gradient),), entries // 20))


def spread(gradients: Tensor, counts: Tensor) -> Tensor:
    """Return directions (n, …) of L1 norm 1, spread evenly over the counts (n,) entries of the largest gradients.

    At least one entry takes part; those of gradients as large as the last one do as well, those of zero never.
    """
    flat = gradients.flatten(1)
    falling, _ = flat.abs().sort(dim=1, descending=True)
    last = (counts.long() - 1).clamp(min=0, max=flat.shape[1] - 1)
    signs = flat.sign().masked_fill(flat.abs() < falling.gather(1, last[:, None]), 0)
    return (signs / signs.abs().sum(dim=1, keepdim=True).clamp(min=1)).reshape(gradients.shape)


def _draw_l1(generator: Generator, shape: torch.Size, epsilon: float) -> Tensor:
    # Exponential variables over their sum are uniform on a simplex; one more of them makes the inside uniform.
    waits = -torch.rand(shape.numel() + 1, generator=generator).clamp(min=1e-30).log()
    signs = torch.randint(0, 2, shape, generator=generator) * 2 - 1
    delta: Tensor = (waits[:-1] / waits.sum()).reshape(shape) * signs * epsilon
    return delta


def _size_l0(delta: Tensor) -> Tensor:
    return (delta.flatten(1) != 0).sum(dim=1).to(delta.dtype)


def _project_l0(delta: Tensor, epsilon: Radius) -> Tensor:
    """Keep the largest entries, of equal ones the first."""
    order = delta.flatten(1).abs().argsort(dim=1, descending=True, stable=True)
    ranks = order.argsort(dim=1).reshape(delta.shape)
    counts = over_samples(epsilon.floor(), delta) if isinstance(epsilon, Tensor) else math.floor(epsilon)
    return delta.masked_fill(ranks >= counts, 0)


def _steepest_l0(gradient: Tensor) -> Tensor:
    return _project_l0(gradient, 1.0).sign()


def _draw_l0(generator: Generator, shape: torch.Size, epsilon: float) -> Tensor:
    values = 2 * torch.rand(shape, generator=generator) - 1
    ranks = torch.randperm(shape.numel(), generator=generator).reshape(shape)
    return values.masked_fill(ranks >= math.floor(epsilon), 0)


def _scaled(delta: Tensor) -> tuple[Tensor, Tensor]:
    """Return (N, …) divided by its largest entry, and those entries (N,); by 1 where all are zero.

    The squares of a confident network's gradient underflow; those of what is returned cannot.
    """
    largest = _size_linf(delta)
    scale = torch.where(largest > 0, largest, torch.ones_like(largest))
    return delta / over_samples(scale, delta), scale


def over_samples(per_sample: Tensor, like: Tensor) -> Tensor:
    """Return (N,) as (N, 1, …, 1), with as many dimensions as ``like``."""
    return per_sample.reshape(-1, *([1] * (like.ndim - 1)))


NORMS: dict[str, Norm] = {
    "linf": Norm("linf", _size_linf, _project_linf, torch.sign, _draw_linf, lambda entries: 1.0, "l1"),
    "l2": Norm("l2", _size_l2, _project_l2, _steepest_l2, _draw_l2, math.sqrt, "l2"),
    "l1": Norm("l1", _size_l1, _project_l1, _steepest_l1, _draw_l1, float, "linf"),
    # Of a change of one entry, which is at most 1 in the box, the largest gradient tells most.
    "l0": Norm("l0", _size_l0, _project_l0, _steepest_l0, _draw_l0, float, "linf"),
}


def get_norm(name: str) -> Norm:
    """Return the norm called ``name``, or raise an `AttackError`."""
    if name not in NORMS:
        raise AttackError(f"there is no norm called {name!r}.{suggest(str(name), NORMS)} Known: {', '.join(NORMS)}.")
    return NORMS[name]


def uphill(norm: Norm, points: Tensor, gradients: Tensor) -> Tensor:
    """Return steepest directions (n, …) at points (n, …).

    In L1, where a step moves few pixels, those that the box holds are passed over.
    """
    return norm.steepest(released(points, gradients) if norm.name == "l1" else gradients)


def released(points: Tensor, gradients: Tensor) -> Tensor:
    """Return gradients (n, …) at points (n, …) with zeros where they lead out of the box."""
    return gradients.masked_fill(((points <= 0) & (gradients < 0)) | ((points >= 1) & (gradients > 0)), 0)


def nearest_delta(points: Tensor, images: Tensor, epsilon: Radius, norm: Norm) -> Tensor:
    """Return the perturbations (N, …) of images (N, …) that lead into their ε-balls, and in L1 into the box as well.

    In the other norms what the box cuts off afterwards is no longer missed; in L1 it could be spent on other entries.
    """
    delta = points - images
    return _project_l1_in_box(delta, images, epsilon) if norm.name == "l1" else norm.project(delta, epsilon)


def _project_l1_in_box(delta: Tensor, images: Tensor, epsilon: Radius) -> Tensor:
    """Project onto the intersection of L1 ball and box (Croce & Hein 2021, arXiv:2103.01208, proposition 2.1).

    Every entry shrinks by one threshold t per sample and stays within its wall, |δ| ↦ min(max(|δ| − t, 0), wall). How
    long all are together falls linearly between the values of t at which an entry leaves its wall or reaches zero.
    """
    sizes = delta.flatten(1).abs()  # (N, D)
    walls = torch.where(delta > 0, 1 - images, images).flatten(1)
    bound = epsilon[:, None] if isinstance(epsilon, Tensor) else epsilon
    length = torch.minimum(sizes, walls).sum(dim=1, keepdim=True)
    if not bool((length > bound).any()):  # as of points that were projected before
        return delta.sign() * torch.minimum(sizes, walls).reshape(delta.shape)
    leaves = (sizes - walls).clamp(min=0)
    rising, order = torch.cat([leaves, sizes], dim=1).sort(dim=1)
    is_moving = torch.cat([torch.ones_like(sizes), -torch.ones_like(sizes)], dim=1).gather(1, order).cumsum(dim=1)
    lost = (rising.diff(dim=1) * is_moving[:, :-1]).cumsum(dim=1)
    excess = torch.cat([length, length - lost], dim=1) - bound
    last = ((excess > 0).sum(dim=1, keepdim=True) - 1).clamp(min=0)
    rest = excess.gather(1, last) / is_moving.gather(1, last).clamp(min=1)
    threshold = torch.where(excess[:, :1] > 0, rising.gather(1, last) + rest, 0)
    kept = torch.minimum((sizes - threshold).clamp(min=0), walls)
    # Sums of many rounded numbers may still come out a little long.
    kept = kept * (bound / kept.sum(dim=1, keepdim=True).clamp(min=1e-30)).clamp(max=1)
    return delta.sign() * kept.reshape(delta.shape)


def contain(points: Tensor, images: Tensor, epsilon: float, norm: Norm) -> Tensor:
    """Return points (N, …) moved into the ε-ball around images (N, …), then into the box [0, 1].

    Rounding goes towards the image: adding a perturbation to a pixel in float32 may lengthen it by 3e-8,
    more than the tolerance of a small ε. The box never takes a point out of the ball, as the image is in it.
    """
    delta = nearest_delta(points, images, epsilon, norm)
    moved = images + delta
    # What the addition rounded off, exactly (Knuth's two-sum); against delta's sign, it went too far.
    added = moved - images
    lost = (moved - added).neg_().add_(images).add_(delta - added)
    too_far = lost.sign_().mul_(delta.sign()).clamp_(max=0)  # -1 where it did, 0 elsewhere
    # Towards the image, or nowhere: a choice by a mask takes as long as all of the rest.
    return torch.nextafter(moved, torch.addcmul(moved, too_far, added)).clamp_(0, 1)


def write_norm(norm: str) -> str:
    """Return a norm of an attack by its symbol."""
    return {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"}.get(norm, norm)


def write_epsilon(epsilon: float, norm: str) -> str:
    """Return a budget of an attack for readers: a fraction of 255 in L∞, a number in other norms."""
    return f"{255 * epsilon:.4g}/255" if norm == "linf" else f"{epsilon:.3g}"


def write_budget(epsilon: float, norm: str) -> str:
    """Return a norm and a budget within it for readers, ``L∞ 8/255``."""
    return f"{write_norm(norm)} {write_epsilon(epsilon, norm)}"
