"""Attacks at their budgets, and what each did to every sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from robustprune.attacks import (
    Attack,
    AttackResult,
    SecurityCurve,
    any_of,
    attack_options,
    check_norm,
    check_transfer,
    get_attack,
    named,
    run_attack,
    save_adversarial,
    security_curve,
    transfer_attack,
    union_attack,
)
from robustprune.errors import AttackError
from robustprune.evaluation.gallery import add_galleries
from robustprune.metrics import wilson_interval
from robustprune.records import AttackEntry, CheckResult, CurveEntry, Samples
from robustprune.registry import share_options, suggest
from robustprune.runtime.arrays import Array
from robustprune.runtime.processes import ALONE, Processes
from robustprune.runtime.work import Progress, Work


@dataclass(frozen=True)
class AttackSettings:
    """How all attacks of an evaluation are run, beyond their own options.

    Attributes:
        checks: ``default``, or ``full`` for those that take attacks of their own.
        eot: Passes whose mean leads the attack on a network that draws at random; one more judges what it found.
        union: Whether to give one figure for all attacks together instead of one for each.
        transfer_from: A network to make further adversarial images on.
        save_adversarial: An npz file of the images; of several attacks or budgets, one for each beside it.
        state: Folder in which attacks keep how far they have come, so that an evaluation that is interrupted goes
            on there. To be cleared by whoever needs it no more, by `robustprune.attacks.clear_states`.
    """

    checks: str = "default"
    eot: int = 1
    union: bool = False
    transfer_from: nn.Module | None = None
    save_adversarial: str | Path | None = None
    state: str | Path | None = None


def make_settings(given: Mapping[str, Any]) -> AttackSettings:
    """Return settings by name.

    Raises:
        AttackError: There is none of that name.
    """
    known = [each.name for each in fields(AttackSettings)]
    for name in given:
        if name not in known:
            raise AttackError(
                f"there is no setting of attacks called {name!r}.{suggest(name, known)} Known: {', '.join(known)}."
            )
    return AttackSettings(**given)


@dataclass
class AttackOutcomes:
    """What a record says of attacks: entries, curves, and outcomes per sample under the entries' places."""

    entries: list[AttackEntry] = field(default_factory=list)
    curves: list[CurveEntry] = field(default_factory=list)
    samples: Samples = field(default_factory=dict)

    def add(self, result: AttackResult) -> None:
        """Add a result."""
        self.samples |= _outcomes(result, len(self.entries))
        self.entries.append(_entry(result))


def run_attacks(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    options: Mapping[str, Mapping[str, Any]],
    *,
    epsilons: Sequence[float],
    further: AttackSettings,
    processes: Processes = ALONE,
    progress: Progress | None = None,
    **settings: Any,
) -> AttackOutcomes:
    """Return one entry per attack and ε, rising: what is broken at one ε is not attacked again at the next.

    Args:
        network: From images (N, C, H, W) to logits.
        images: (N, C, H, W) uint8.
        labels: (N,).
        options: Attack → its own options, from :func:`share_attack_options`.
        epsilons: Budgets on the [0, 1] scale.
        further: Settings that not every caller has an opinion on.
        processes: Those that share the samples.
        progress: Called as work proceeds.
        settings: What every attack gets, see :func:`robustprune.run_attack`.
    """
    found = AttackOutcomes()
    if not options or not epsilons:
        return found
    attacker = _Attacker(options, further, processes, progress)
    shared = {"checks": further.checks, "eot": further.eot, **settings}
    results: list[AttackResult] = []
    for name in ["union"] if further.union else options:
        curve = security_curve(network, images, labels, name, epsilons=epsilons, attacker=attacker, **shared)
        results += curve.results
        if len(curve.results) > 1:
            found.curves.append(_curve(name, curve))
    results += attacker.transferred
    for result in results:
        found.add(result)
    add_galleries(found.entries, found.samples, results, images, settings["sample_ids"])
    processes.from_main(lambda: _save(results, network, further.save_adversarial))
    return found


class _Attacker:
    """Runs one attack of an evaluation, or all as one, at one budget, and whatever else was asked for beside it.

    Attributes:
        transferred: Results with images made on another network.
    """

    def __init__(
        self,
        options: Mapping[str, Mapping[str, Any]],
        further: AttackSettings,
        processes: Processes,
        progress: Progress | None,
    ) -> None:
        self.transferred: list[AttackResult] = []
        self._options, self._further = options, further
        self._work = Work(processes, progress, None if further.state is None else Path(further.state))

    def __call__(
        self, model: nn.Module, images: Array, labels: Array, attack: str | Attack, *, epsilon: float, **settings: Any
    ) -> AttackResult:
        name = attack if isinstance(attack, str) else attack.name
        settings |= {"epsilon": epsilon, "work": self._work}
        own = [
            Attack.asked(each, **given) for each, given in self._options.items() if self._further.union or each == name
        ]
        if self._further.union:
            result = union_attack(model, images, labels, own, **settings)
        else:
            result = run_attack(model, images, labels, own[0], **settings)
        source = self._further.transfer_from
        if source is None:
            return result
        settings = {key: value for key, value in settings.items() if key != "carry"} | {"checks": "default"}
        moved = [transfer_attack(model, source, images, labels, each, **settings) for each in own]
        together = any_of(moved, name) if self._further.union else moved[0]
        self.transferred.append(replace(together, attack=f"transfer:{name}"))
        return replace(result, checks=(*result.checks, check_transfer(result, together)))


def _curve(name: str, curve: SecurityCurve) -> CurveEntry:
    median = curve.median_minimal_epsilon
    return CurveEntry(
        name=name,
        norm=curve.results[0].norm,
        epsilons=curve.epsilons,
        robust_accuracy=curve.robust_accuracies,
        valid=all(result.valid for result in curve.results),
        median_minimal_epsilon=median if math.isfinite(median) else None,
    )


def _save(results: list[AttackResult], network: nn.Module, path: str | Path | None) -> None:
    if path is None:
        return
    files = adversarial_files(path, [(result.attack, result.epsilon) for result in results])
    for result, file in zip(results, files, strict=True):
        save_adversarial(result, network, file)


def adversarial_files(path: str | Path, attacks: Sequence[tuple[str, float]]) -> list[Path]:
    """Return the file for the images of each attack at its ε: ``path`` itself, or beside it under all of its name."""
    path = Path(path)
    if len(attacks) == 1:
        return [path]
    short = [f"{name}-{epsilon:.4g}" for name, epsilon in attacks]
    whole = [f"{name}-{epsilon}" for name, epsilon in attacks]
    own = short if len(set(short)) == len(short) else whole
    return [path.with_name(f"{path.name}-{name.replace(':', '-').replace('/', '-')}.npz") for name in own]


def share_attack_options(attacks: Sequence[str], options: dict[str, Any], norm: str) -> dict[str, dict[str, Any]]:
    """Return the options each attack takes.

    Raises:
        AttackError: An option that none of them takes, or a norm that one of them does not know.
    """
    for name in attacks:
        check_norm(get_attack(name), name, norm)
    if options and not attacks:
        raise AttackError(f"no attack is named that could take {', '.join(map(repr, options))}; name one, such as pgd")
    return share_options({name: attack_options(name) for name in attacks}, options, AttackError)


def _entry(result: AttackResult) -> AttackEntry:
    return AttackEntry(
        name=result.attack,
        norm=result.norm,
        epsilon=result.epsilon,
        steps=result.options.get("steps"),
        restarts=result.options["restarts"],
        options=named(result.options),
        robust_accuracy=result.robust_accuracy,
        interval=wilson_interval(result.n - int(result.broken.sum()), result.n),
        valid=result.valid,
        checks=[CheckResult(name=check.name, verdict=check.verdict, detail=check.detail) for check in result.checks],
        gradient_evaluations=result.gradient_evaluations,
        forward_evaluations=result.forward_evaluations,
        seconds=result.seconds,
        parts=_parts(result),
    )


def _parts(result: AttackResult) -> list[str]:
    return sorted(set(result.broken_by))


def _outcomes(result: AttackResult, entry: int) -> Samples:
    return {
        f"attack{entry}_prediction": result.adversarial_predictions.numpy(),
        f"attack{entry}_broken": result.broken.numpy(),
        f"attack{entry}_norm": result.perturbation_norms.numpy().astype(np.float32),
        f"attack{entry}_step": result.broken_at_step.numpy().astype(np.int32),
        f"attack{entry}_queries": result.queries.numpy().astype(np.int32),
        f"attack{entry}_part": np.array([_parts(result).index(part) for part in result.broken_by], np.int16),
    }
