"""Attacks at their budgets, and what each did to every sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from robustprune.attacks import AttackResult, attack_options, run_attack
from robustprune.errors import AttackError
from robustprune.metrics import wilson_interval
from robustprune.records import AttackEntry, CheckResult, Samples
from robustprune.registry import suggest

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def run_attacks(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    options: Mapping[str, Mapping[str, Any]],
    *,
    epsilons: Sequence[float],
    progress: Progress | None = None,
    **settings: Any,
) -> tuple[list[AttackEntry], Samples]:
    """Return one entry per attack and ε, and their outcomes per sample under the entries' places.

    Args:
        network: From images (N, C, H, W) to logits.
        images: (N, C, H, W) uint8.
        labels: (N,).
        options: Attack → its own options, from :func:`share_options`.
        epsilons: Budgets on the [0, 1] scale.
        progress: Called as work proceeds.
        settings: What every attack gets, see :func:`robustprune.run_attack`.
    """
    entries: list[AttackEntry] = []
    samples: Samples = {}
    for name, own in options.items():
        for epsilon in epsilons:
            told = _named(progress, f"{name} ε={epsilon:.4g}")
            result = run_attack(network, images, labels, name, epsilon=epsilon, progress=told, **settings, **own)
            samples |= _outcomes(result, len(entries))
            entries.append(_entry(result))
    return entries, samples


def share_options(attacks: Sequence[str], options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the options each attack takes.

    Raises:
        AttackError: An option that none of them takes.
    """
    known = {name: attack_options(name) for name in attacks}
    if options and not attacks:
        raise AttackError(f"no attack is named that could take {', '.join(map(repr, options))}; name one, such as pgd")
    for option in options:
        if not any(option in takes for takes in known.values()):
            every = sorted({name for takes in known.values() for name in takes})
            raise AttackError(
                f"{option!r} is no option of {' or '.join(attacks)}.{suggest(option, every)} "
                f"What they take: {', '.join(every) or 'nothing'}."
            )
    return {
        name: {option: value for option, value in options.items() if option in takes} for name, takes in known.items()
    }


def _entry(result: AttackResult) -> AttackEntry:
    return AttackEntry(
        name=result.attack,
        norm=result.norm,
        epsilon=result.epsilon,
        steps=result.options.get("steps"),
        restarts=result.options["restarts"],
        options=result.options,
        robust_accuracy=result.robust_accuracy,
        interval=wilson_interval(result.n - int(result.broken.sum()), result.n),
        valid=result.valid,
        checks=[CheckResult(name=check.name, verdict=check.verdict, detail=check.detail) for check in result.checks],
        gradient_evaluations=result.gradient_evaluations,
        forward_evaluations=result.forward_evaluations,
        seconds=result.seconds,
    )


def _outcomes(result: AttackResult, entry: int) -> Samples:
    return {
        f"attack{entry}_prediction": result.adversarial_predictions.numpy(),
        f"attack{entry}_broken": result.broken.numpy(),
        f"attack{entry}_norm": result.perturbation_norms.numpy().astype(np.float32),
    }


def _named(progress: Progress | None, label: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(label, done, total)
