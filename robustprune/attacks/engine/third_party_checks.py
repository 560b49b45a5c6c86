"""Whether the number that an attack of another package gives can be believed: its norm, and one step beside it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from robustprune.attacks.engine.attack_result import Check
from robustprune.attacks.engine.ledger import Goal, Tally
from robustprune.attacks.engine.oracle import Batches, Oracle, Question
from robustprune.attacks.engine.samples import Samples
from robustprune.attacks.engine.third_party_norms import Measure
from robustprune.attacks.engine.waves import PerSample, split_waves
from robustprune.attacks.losses import cross_entropy
from robustprune.attacks.norms import contain, get_norm, uphill
from robustprune.attacks.registry import AttackFunction
from robustprune.attacks.requests import Attack
from robustprune.models import model_device, run_uncompiled, to_unit_range

ONE_SIDED = 1.645
"""Standard deviations of chance that are passed over: 5 % of attacks as strong as a step are found weaker."""


def check_third_party(
    attack: AttackFunction, model: nn.Module, samples: Samples, outcome: PerSample, request: Attack
) -> list[Check]:
    """Return the checks of an attack of another package, given what it found; none of any other attack."""
    measure: Measure | None = getattr(attack, "measure", None)
    if measure is None:
        return []
    oracle = Oracle(Tally(), Batches(request.batch_size), lambda _: None, request.eot)
    with run_uncompiled(model):
        steps = [_step(oracle, model, wave, outcome, request) for wave in split_waves(samples, request)]
    return [check_norm_of(measure, request.norm), check_single_step(outcome.broken, torch.cat(steps), oracle.tally)]


def check_norm_of(measure: Measure, norm: str) -> Check:
    """An attack that measures in none of our norms is moved into a ball it knows nothing of."""
    if measure.norms:
        return Check("norm", "PASS", f"the attack works in {norm}")
    return Check(
        "norm",
        "WARN",
        f"the attack works in {measure.stated}: what it finds is moved into the ball of {norm}, where it mostly is "
        f"no longer adversarial; attack with 'pgd'",
    )


def check_single_step(broken: Tensor, by_step: Tensor, tally: Tally) -> Check:
    """An attack must not leave more samples than a step of FGSM does, beyond what chance allows.

    Of the samples that only one of the two broke, the step may have more up to 1.645 standard deviations of a fair coin
    (McNemar 1947, one-sided at 5 %), which are those of the same samples.

    Args:
        broken: (N,) bool, by the attack.
        by_step: (N,) bool, by the step, or without one.
        tally: What the step met with.
    """
    if tally.without_graph:
        return Check("single step", "WARN", "a step of FGSM finds no gradient: the logits are cut off from the input")
    only_step, only_attack = int((by_step & ~broken).sum()), int((broken & ~by_step).sum())
    left, left_by_step = (1 - float(each.double().mean()) for each in (broken, by_step))
    detail = f"a step of FGSM leaves {left_by_step:.4f}, this {left:.4f}"
    if only_step - only_attack <= ONE_SIDED * math.sqrt(only_step + only_attack):
        return Check("single step", "PASS", detail)
    return Check(
        "single step",
        "WARN",
        f"{detail}: the attack is weaker than one step; its own may be too short or too few for this epsilon, "
        f"see its options, or attack with 'pgd'",
    )


def _step(oracle: Oracle, model: nn.Module, samples: Samples, outcome: PerSample, request: Attack) -> Tensor:
    """Return (n,) bool, what FGSM breaks or is misclassified to begin with, for a gradient and a pass each."""
    norm, epsilon, place = get_norm(request.norm), request.epsilon, model_device(model)
    images = to_unit_range(samples.images.to(place)).clone()
    goal = Goal(samples.labels.to(place), None if samples.targets is None else samples.targets.to(place))
    question = Question(
        rows=torch.arange(len(images), device=place),
        points=images,
        score=goal.score(cross_entropy),
        gradient=True,
        settle=lambda points, _: points,
        record=lambda *_: None,
    )
    clean = oracle.answer(model, question, outcome.clean_logits.to(place), "")
    points = contain(images + epsilon * uphill(norm, images, clean.gradients), images, epsilon, norm)
    return (goal.is_reached(clean.logits) | goal.is_reached(oracle.predict(model, points))).cpu()
