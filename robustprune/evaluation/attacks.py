"""Attacks at their budgets, and what each did to every sample."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from robustprune.attacks import (
    Attack,
    AttackResult,
    OptimalityEntry,
    SecurityCurve,
    any_of,
    attack_options,
    check_norm,
    check_transfer,
    compare_attacks,
    get_attack,
    named,
    save_adversarial,
    transfer_attack,
    union_attack,
)
from robustprune.attacks.registry import ENGINE_OPTIONS, expand_options, is_minimum_norm
from robustprune.attacks.requests import OF_ONE_ATTACK, Attacks
from robustprune.attacks.successive import attack_rising
from robustprune.data import Sample
from robustprune.errors import AttackError
from robustprune.evaluation.requests import Evaluation
from robustprune.inference import shared_copies
from robustprune.metrics import median_interval, wilson_interval
from robustprune.models import model_device
from robustprune.records import AttackEntry, CheckResult, CurveEntry, MedianDistance, SampledEntry, Samples
from robustprune.registry import read_options, share_options, split_options
from robustprune.runtime.work import Work

_GALLERY_IMAGES = 8
_GALLERY_NUMBERS = 1 << 19  # pixels × channels of them all: a record is for figures, not for data sets


@dataclass
class AttackOutcomes:
    """What a record says of attacks; samples are under the places of the entries."""

    entries: list[AttackEntry] = field(default_factory=list)
    curves: list[CurveEntry] = field(default_factory=list)
    optimality: list[OptimalityEntry] = field(default_factory=list)
    samples: Samples = field(default_factory=dict)


@shared_copies()
def run_attacks(
    network: nn.Module, sample: Sample, evaluation: Evaluation, clean_accuracy: float, work: Work
) -> AttackOutcomes:
    """Return one entry per attack and ε, rising: what is broken at one ε is not attacked again at the next.

    Attacks have to find the clean accuracy on the sample, too; processes share its images.
    """
    asked, found = evaluation.attacks, AttackOutcomes()
    if not asked.names or not asked.epsilons:
        return found
    options, shown = share_attack_options(asked), (sample.images, sample.labels)
    how: dict[str, Any] = {"sample_ids": sample.indices, "expected_clean_accuracy": clean_accuracy, "work": work}
    how["device"] = model_device(network)
    results: list[AttackResult] = []
    transferred: list[AttackResult] = []
    for name in ["union"] if asked.union else list(dict.fromkeys(asked.names)):
        requests = [_request(evaluation, each, options[each]) for each in (options if asked.union else [name])]
        rising = _attack_rising(network, shown, requests, asked, how)
        if asked.transfer_from is not None:
            for place, result in enumerate(rising):
                moved = [
                    transfer_attack(
                        network, asked.transfer_from, *shown, each, epsilon=result.epsilon, **how, checks="default"
                    )
                    for each in requests
                ]
                together = any_of(moved, name) if asked.union else moved[0]
                transferred.append(replace(together, attack=f"transfer:{name}"))
                rising[place] = _with_transfer(result, transferred[-1], asked)
        results += rising
        if len(rising) > 1:
            found.curves.append(_curve(name, rising))
    results += transferred
    found.optimality = compare_attacks(results)
    if asked.save_adversarial is not None:
        files = adversarial_files(asked.save_adversarial, [(result.attack, result.epsilon) for result in results])
        for result, file in zip(results, files, strict=True):
            work.processes.from_main(partial(save_adversarial, result, network, file))
    results += [result.mitigated for result in results if result.mitigated is not None]
    for place, result in enumerate(results):
        found.entries.append(_entry(result))
        found.samples |= _outcomes(result, place)
    _add_galleries(found, results, sample)
    return found


def _with_transfer(result: AttackResult, transferred: AttackResult, asked: Attacks) -> AttackResult:
    """Return a direct attack's result, judged by transferred images; mitigated by them too where they find more."""
    check = check_transfer(result, transferred)
    mitigated = result.mitigated
    if asked.mitigate and check.verdict == "WARN":
        name = f"mitigated:{result.attack}"
        before, mitigated = mitigated or result, any_of([mitigated or result, transferred], name)
        fresh = {each.name: each for each in mitigated.checks if each.name == "sample size"}
        mitigated = replace(mitigated, checks=tuple(fresh.get(each.name, each) for each in before.checks))
        change = f"robust accuracy {before.robust_accuracy:.2%} → {mitigated.robust_accuracy:.2%}"
        check = replace(check, detail=f"{check.detail}; mitigated with {transferred.attack}: {change}")
    return replace(result, checks=(*result.checks, check), mitigated=mitigated)


def _attack_rising(
    network: nn.Module, shown: tuple[Any, Any], requests: list[Attack], asked: Attacks, how: dict[str, Any]
) -> list[AttackResult]:
    budgets, rising = sorted(set(asked.epsilons)), list[AttackResult]()
    if not asked.union:
        return attack_rising(network, *shown, requests[0], budgets, **how)
    for epsilon in budgets:
        previous = rising[-1] if rising else None
        rising.append(union_attack(network, *shown, requests, epsilon=epsilon, previous=previous, **how))
    return rising


def _request(evaluation: Evaluation, name: str, options: dict[str, Any]) -> Attack:
    return Attack(
        name,
        seed=evaluation.seed,
        batch_size=evaluation.batch_size,
        options=options,
        **evaluation.attacks.model_dump(include={"norm", "restarts", "eot", "checks", "mitigate"}),
    )


def _curve(name: str, rising: list[AttackResult]) -> CurveEntry:
    curve = SecurityCurve(tuple(rising))
    median = curve.median_minimal_epsilon
    return CurveEntry(
        name=name,
        norm=rising[0].norm,
        epsilons=curve.epsilons,
        robust_accuracy=curve.robust_accuracies,
        valid=all(result.valid for result in rising),
        median_minimal_epsilon=median if math.isfinite(median) else None,
    )


def adversarial_files(path: str | Path, attacks: Sequence[tuple[str, float]]) -> list[Path]:
    """Return the file for the images of each attack at its ε: ``path`` itself, or beside it under all of its name."""
    path = Path(path)
    if len(attacks) == 1:
        return [path]
    names = [f"{name}-{epsilon:.4g}" for name, epsilon in attacks]
    if len(set(names)) < len(names):
        names = [f"{name}-{epsilon}" for name, epsilon in attacks]
    return [path.with_name(f"{path.name}-{re.sub(r'[:/,=]', '-', name)}.npz") for name in names]


def share_attack_options(asked: Attacks) -> dict[str, dict[str, Any]]:
    """Return the options of each attack, by its name as it was written: its own, and those of all that it takes.

    Raises:
        AttackError: An option that an attack does not take, or none of them, or a norm that one does not know.
    """
    found = {text: _own_options(text, asked) for text in asked.names}
    if asked.options and not asked.names:
        options = ", ".join(map(repr, asked.options))
        raise AttackError(f"no attack is named that could take {options}; name one, such as pgd")
    takes = {text: attack_options(split_options(text)[0]) for text in asked.names}
    shared = share_options(takes, asked.options, AttackError)
    return {text: shared[text] | own for text, own in found.items()}


def _own_options(text: str, asked: Attacks) -> dict[str, Any]:
    """Return the options that are written behind an attack's name, but for how it is run, once they are checked."""
    name, own = read_options(text)
    check_norm(get_attack(name), name, asked.norm)
    for key in own:
        if key in ENGINE_OPTIONS and key not in OF_ONE_ATTACK:
            raise AttackError(
                f"{text!r}: {key} is set for all attacks together; behind the name of one go "
                f"{', '.join([*attack_options(name), *OF_ONE_ATTACK])}"
            )
    if is_minimum_norm(get_attack(name)):
        Attack(name, selection="nearest", eot=own.get("eot", asked.eot))  # which may be refused, better now than later
    options = {key: value for key, value in own.items() if key not in OF_ONE_ATTACK}
    expand_options(name, options, OF_ONE_ATTACK)
    return options


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
        parts=sorted(set(result.broken_by)),
        sampled=None if result.sampled is None else SampledEntry(**vars(result.sampled)),
        distance=_median_distance(result),
    )


def _median_distance(result: AttackResult) -> MedianDistance | None:
    if result.distances is None:
        return None
    found = (each if math.isfinite(each) else None for each in median_interval(result.distances.numpy()))
    return MedianDistance(**dict(zip(("median", "low", "high"), found, strict=True)))


def _outcomes(result: AttackResult, entry: int) -> Samples:
    parts = sorted(set(result.broken_by))
    distances = {} if result.distances is None else {f"attack{entry}_distance": result.distances.numpy()}
    return {
        **{name: values.astype(np.float32) for name, values in distances.items()},
        f"attack{entry}_prediction": result.adversarial_predictions.numpy(),
        f"attack{entry}_broken": result.broken.numpy(),
        f"attack{entry}_norm": result.perturbation_norms.numpy().astype(np.float32),
        f"attack{entry}_step": result.broken_at_step.numpy().astype(np.int32),
        f"attack{entry}_queries": result.queries.numpy().astype(np.int32),
        f"attack{entry}_part": np.array([parts.index(part) for part in result.broken_by], np.int16),
    }


def _add_galleries(found: AttackOutcomes, results: Sequence[AttackResult], sample: Sample) -> None:
    """Add to the outcomes a few images that each attack broke at its largest ε, to look at without the network.

    They are the first in order of the data set that were classified rightly without the attack.
    """
    limit = max(1, min(_GALLERY_IMAGES, _GALLERY_NUMBERS // sample.images[0].numel()))
    rising = sorted(range(len(results)), key=lambda place: results[place].epsilon)
    for place in {(results[place].attack, results[place].norm): place for place in rising}.values():
        result = results[place]
        broken = (result.broken & ~result.initially_wrong).nonzero()[:, 0]
        chosen = broken[sample.indices[broken].argsort()][:limit]
        if len(chosen):
            clean = sample.images[chosen.to(sample.images.device)].cpu()
            added = result.adversarial[chosen].double() - clean.double() / 255
            found.samples[f"gallery{place}_index"] = sample.indices[chosen].numpy()
            found.samples[f"gallery{place}_clean"] = clean.numpy()
            found.samples[f"gallery{place}_perturbation"] = added.numpy().astype(np.float16)
            found.entries[place].gallery = len(chosen)
