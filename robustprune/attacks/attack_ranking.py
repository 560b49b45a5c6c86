"""Attacks of one network beside each other: which comes closest to the best that is known of each sample."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from robustprune.attacks.engine.attack_result import AttackResult
from robustprune.attacks.norms import write_norm
from robustprune.metrics import attack_optimality


class OptimalityEntry(BaseModel):
    """How close one attack comes to the best of all attacks that were run in its norm.

    Attributes:
        name: The attack.
        norm: The norm.
        optimality: In [0, 1], see :func:`robustprune.metrics.attack_optimality`.
        nearest: Share of the samples broken by any attack on which none finds a smaller perturbation.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    name: str
    norm: str
    optimality: float
    nearest: float


def compare_attacks(results: Sequence[AttackResult]) -> list[OptimalityEntry]:
    """Return how close each attack comes to the best, of the norms in which this can be told; best first in each.

    It takes two attacks in a norm, and either a minimum-norm attack or several budgets: at one budget, attacks say
    whether a sample breaks, and not how far the nearest point is. What an attack of fixed budgets is known to reach is
    the smallest perturbation with which it broke a sample, so more budgets do it more justice. Results that failed a
    check, and those of targeted attacks, are left out.
    """
    norms: dict[str, dict[str, list[AttackResult]]] = {}
    for result in results:
        if result.valid and result.targets is None:
            norms.setdefault(result.norm, {}).setdefault(result.attack, []).append(result)
    entries = []
    for norm, attacks in norms.items():
        runs = [result for found in attacks.values() for result in found]
        has_distances = any(result.distances is not None for result in runs)
        if len(attacks) < 2 or not (has_distances or len({result.epsilon for result in runs}) > 1):
            continue
        found = attack_optimality({name: _smallest(own).numpy() for name, own in attacks.items()})
        ranked = sorted(found.items(), key=lambda each: -each[1].optimality)
        entries += [OptimalityEntry(name=name, norm=norm, **vars(each)) for name, each in ranked]
    return entries


def _smallest(results: Sequence[AttackResult]) -> Tensor:
    """Return the smallest perturbation (N,) with which an attack broke each sample at any of its budgets."""
    found = [
        torch.where(result.broken, result.perturbation_norms, torch.inf)
        if result.distances is None
        else result.distances
        for result in results
    ]
    return torch.stack(found).amin(dim=0)


def describe_optimality(entries: Sequence[OptimalityEntry]) -> list[str]:
    """Return a sentence for each norm: the attack that comes closest, and what others find that it does not."""
    sentences = []
    for norm in dict.fromkeys(entry.norm for entry in entries):
        first, *others = (entry for entry in entries if entry.norm == norm)
        text = f"{write_norm(norm)}: {first.name} comes closest (optimality {first.optimality:.3f})"
        if first.nearest < 1:
            text += f", yet on {100 * (1 - first.nearest):.1f} % of the broken images another attack comes closer"
        listed = (f"{each.name} {each.optimality:.3f}, nearest on {100 * each.nearest:.1f} %" for each in others)
        sentences.append(f"{text}; {'; '.join(listed)}")
    return sentences
