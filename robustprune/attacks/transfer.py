"""Attacking one network with images made on another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.attacks.engine import checks
from robustprune.attacks.engine.attack_result import AttackResult, Check
from robustprune.attacks.engine.full_checks import further_broken
from robustprune.attacks.engine.goal import Goal
from robustprune.attacks.engine.queries import Batches, predict_once
from robustprune.attacks.engine.runner import NO_WORK, run_attack
from robustprune.attacks.engine.samples import check_samples
from robustprune.attacks.requests import Attack
from robustprune.models import as_network, evaluation_mode, model_device, network_name, placed, to_unit_range
from robustprune.runtime.arrays import Array
from robustprune.runtime.devices import Device
from robustprune.runtime.work import Work


def transfer_attack(
    model: nn.Module,
    source: nn.Module,
    images: Array,
    labels: Array,
    attack: str | Attack = "pgd",
    *,
    sample_ids: Sequence[int] | Tensor | None = None,
    expected_clean_accuracy: float | None = None,
    device: Device = None,
    work: Work = NO_WORK,
    **settings: Any,
) -> AttackResult:
    """Show a model the images that an attack on another made, and say what came of it.

    The attack goes on on samples that the source already has wrong, and returns the point of highest loss there:
    what only just fools the source rarely fools another network. Samples that the source has wrong to begin with
    come as they are.

    ``model`` is judged, also for ``expected_clean_accuracy``; the attack sees ``source``, of the same classes. All
    further arguments are those of `run_attack`.

    Raises:
        AttackError: As `run_attack`.
    """
    model, source = (placed(as_network(each), device) for each in (model, source))
    targets = settings.pop("targets", None)
    request = Attack.of(attack, **({"early_stop": False} | settings | {"mitigate": False}))
    made = run_attack(source, images, labels, request, targets=targets, sample_ids=sample_ids, work=work)
    made_at = time.perf_counter()
    samples = check_samples(images, labels, sample_ids)
    clean, predictions = (_predict(model, each, samples.ids, request) for each in (samples.images, made.adversarial))
    was_reached, broken = map(Goal(made.labels, made.targets).is_reached_by, (clean, predictions))
    broken |= was_reached
    dropped = ("sample size", "clean agreement", "transfer failure")
    found = [check for check in made.checks if check.name not in dropped]
    found += [checks.check_sample_size(broken), check_transfer_failure(made.broken & ~made.initially_wrong, broken)]
    if expected_clean_accuracy is not None:
        is_right, is_random = clean == made.labels, request.eot > 1
        found.append(checks.check_clean_agreement(is_right, expected_clean_accuracy, draws_at_random=is_random))
    return replace(
        made,
        options={**made.options, "source": network_name(source)},
        broken=broken,
        clean_predictions=clean,
        adversarial_predictions=predictions,
        broken_at_step=torch.where(was_reached, 0, torch.where(broken, made.queries, -1)),
        broken_by=[
            "clean" if was else f"transfer:{request.label}" if now else ""
            for was, now in zip(was_reached.tolist(), broken.tolist(), strict=True)
        ],
        checks=tuple(found),
        forward_evaluations=made.forward_evaluations + 2 * made.n,
        seconds=made.seconds + time.perf_counter() - made_at,
        distances=None,  # those to the boundary of the source
        mitigated=None,  # what breaks the source, too
    )


def _predict(model: nn.Module, images: Tensor, sample_ids: list[int], request: Attack) -> Tensor:
    images, batches = to_unit_range(images.to(model_device(model))), Batches(request.batch_size)
    with evaluation_mode(model):
        return predict_once(model, images, sample_ids, seed=request.seed, batches=batches).argmax(dim=1).cpu()


def check_transfer_failure(made: Tensor, broken: Tensor) -> Check:
    """What breaks the network it was made on should break this one (Pintor et al. 2022, I5): both (N,) bool."""
    lost, n = int((made & ~broken).sum()), int(made.sum())
    detail = f"of {n} samples that the attack broke on the other network, {lost} do not break this one"
    if lost <= checks.MOST_FURTHER * len(made):
        return Check("transfer failure", "PASS", detail)
    return Check("transfer failure", "WARN", f"{detail}; they say nothing of an attack on this one itself")


def check_transfer(direct: AttackResult, transferred: AttackResult) -> Check:
    """Examples made on another network must not find what an attack on the network itself missed."""
    further = further_broken(transferred, direct)
    detail = f"examples made on another network break a further {further:.2%} of the samples"
    return Check("transfer", "WARN" if further > checks.MOST_FURTHER else "PASS", detail)
