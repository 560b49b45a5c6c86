"""In which norm an attack of another package measures its budget: by what it says of itself, else by trial."""

from __future__ import annotations

import inspect
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.attacks.norms import NORMS
from robustprune.runtime.randomness import isolated_generators, seeded_generator

BUDGETS = ("eps", "max_epsilon", "epsilon")
"""How constructors of torchattacks call the budget."""
TORCHATTACKS_NAMES = {"linf": "Linf", "l2": "L2", "l1": "L1"}
"""What they call our norms."""

_STATED = re.compile(r"Distance Measure\s*:(.*)")
_ORDERS = {math.inf: "linf", 2: "l2", 1: "l1"}
# Budget of the trial, short enough for the usual step sizes to get to its end; relative slack for rounding.
_TRIAL, _SLACK = 4 / 255, 1e-3


@contextmanager
def kept_apart() -> Iterator[None]:
    """Run another package's code: what it prints does not end up among results, what it is warned of is its own."""
    with warnings.catch_warnings(action="ignore"), redirect_stdout(sys.stderr):
        yield


@dataclass(frozen=True)
class Measure:
    """What an attack measures its perturbations in.

    Attributes:
        norms: Those of `robustprune.attacks.norms.NORMS` that it works in.
        stated: What it measures in where that is none of them.
    """

    norms: tuple[str, ...]
    stated: str = ""


@cache
def foolbox_measure(kind: type) -> Measure:
    """Return what an attack of foolbox measures in: the norm it is given, or the one of its ``distance``."""
    parameters = inspect.signature(kind).parameters
    if "distance" in parameters:
        return Measure(tuple(NORMS))
    if "constraint" in parameters:
        # Literals, or a union of them.
        allowed = str(parameters["constraint"].annotation)
        return Measure(tuple(norm for norm in NORMS if repr(norm) in allowed))
    try:
        # Of most it is an attribute of the class, of some a property that looks at nothing else.
        blank: Any = object.__new__(kind)
        order = blank.distance.p
    except Exception:
        return Measure((), "no norm")
    return Measure((_ORDERS[order],)) if order in _ORDERS else Measure((), f"L{order}")


@cache
def torchattacks_measure(kind: type) -> Measure:
    """Return what an attack of torchattacks measures in: what its documentation states, else what a trial shows."""
    stated = _STATED.search(kind.__doc__ or "")
    if stated:
        names = re.findall(r"L(?:inf|\d+)", stated[1])
        norms = tuple(norm for norm, name in TORCHATTACKS_NAMES.items() if name in names)
        return Measure(norms, " and ".join(names) or stated[1].strip())
    parameters = inspect.signature(kind).parameters
    budget = next((name for name in BUDGETS if name in parameters), None)
    if budget is None:
        return Measure((), "no norm")

    def trial(**options: str) -> str | None:
        return norm_by_trial(
            lambda model, images, labels, size: kind(model, **{budget: size}, **options)(images, labels)
        )

    if "norm" in parameters:
        return Measure(tuple(norm for norm, name in TORCHATTACKS_NAMES.items() if trial(norm=name) == norm), "no norm")
    found = trial()
    return Measure((found,)) if found else Measure((), "no norm")


def norm_by_trial(attack: Callable[[nn.Module, Tensor, Tensor, float], Tensor]) -> str | None:
    """Return the norm whose ball holds what an attack does to a linear network, or None.

    A ball of L1 lies within that of L2, and that within L∞'s: the narrowest one that holds all perturbations is meant.
    An attack may return what does not succeed, or only what does, so there is a network that it cannot break and one
    that it can.

    Args:
        attack: Network, images (n, C, H, W), labels (n,), ε → points (n, C, H, W).
    """
    generator = seeded_generator("norm by trial")
    # Nearly the same one, so that one bias gives all of them one margin.
    image, shifts = (torch.rand(shape, generator=generator) for shape in ((3, 16, 16), (4, 1, 1, 1)))
    images = 0.25 + 0.5 * image + 1e-4 * shifts
    labels = torch.zeros(len(images), dtype=torch.int64)
    weights = 0.1 * torch.randn(10, images[0].numel(), generator=generator)
    for margin in (5.0, 1e-3):
        linear = nn.Linear(images[0].numel(), 10)
        network = nn.Sequential(nn.Flatten(), linear).requires_grad_(False).eval()
        linear.weight.copy_(weights)
        # All classes alike but for the margin.
        linear.bias.copy_(-weights @ images.flatten(1).mean(dim=0))
        linear.bias[0] += margin
        try:
            with isolated_generators(0), torch.enable_grad(), kept_apart():
                moved = attack(network, images.clone(), labels.clone(), _TRIAL).detach() - images
        except Exception:
            return None
        sizes = {norm: float(NORMS[norm].size(moved).max()) for norm in ("l1", "l2", "linf")}
        if sizes["linf"] > 0:
            return next((norm for norm, size in sizes.items() if size <= _TRIAL * (1 + _SLACK)), None)
    return None
