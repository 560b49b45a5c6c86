"""The checks that cost attacks of their own: is this number as low as attacks get?

A few images at the widest budget, and one step of FGSM beside every attack of another package; more with
``checks="full"``. What they find is judged, not mixed in: the number stays that of the attack it is attached to.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from robustprune.attacks.engine.attack_result import AttackResult, Check
from robustprune.attacks.engine.checks import MOST_FURTHER
from robustprune.attacks.engine.goal import Goal
from robustprune.attacks.engine.samples import Samples
from robustprune.attacks.norms import get_norm
from robustprune.attacks.registry import attack_options, get_attack, knows_norm
from robustprune.attacks.requests import Attack
from robustprune.models import run_uncompiled
from robustprune.runtime.work import Work

ONE_SIDED = 1.645
"""Standard deviations of chance that are passed over: 5 % of attacks as strong as a step are found weaker."""
PROBED = 100
"""Samples of the checks that ask about the model rather than about the number."""
FEW_PROBED = 16
"""Samples of the one of them that every attack has."""
BLACK_BOX_QUERIES = 300
SINGLE_STEPS = ("noise", "fgsm", "rfgsm")
"""Attacks that take no longer than the check of a large budget, and fail anyway where gradients do."""

SHARED = {"epsilon", "norm", "seed", "restarts", "batch_size", "eot", "frozen"}


@dataclass(frozen=True)
class CheckRunner:
    """Attacks the samples of a result in other ways."""

    # `robustprune.attacks.engine.runner.attack_once`, which imports this module.
    run: Callable[..., AttackResult]
    model: nn.Module
    samples: Samples
    result: AttackResult
    request: Attack
    work: Work
    expected_clean_accuracy: float | None = None

    def attack(
        self,
        name: str,
        *,
        samples: int | None = None,
        previous: AttackResult | None = None,
        is_probed: bool = True,
        **changes: Any,
    ) -> AttackResult:
        """Run an attack on the first so many samples (all by default), with the settings of the result.

        Unless the model is probed, the checks lack those of the model alone.
        """
        part, given = self.samples.part(slice(samples)), self.request.model_dump(include=SHARED) | changes
        asked, work = Attack.of(name, **given), replace(self.work, progress=None)
        return self.run(self.model, part, asked, previous=previous, work=work, is_probed=is_probed)


def further_broken(other: AttackResult, result: AttackResult) -> float:
    """Return the share of the samples of another attack that it broke and a result did not."""
    return int((other.broken & ~result.broken[: other.n]).sum()) / other.n


def run_further_checks(runner: CheckRunner) -> AttackResult:
    """Return the result with the further checks that its request asks for, in place of cheaper ones of their names."""
    further = check_third_party(runner)
    if runner.request.checks == "full":
        further += run_full_checks(runner)
    elif runner.request.name not in SINGLE_STEPS:
        unsaved = replace(runner.work, folder=None)  # writing so short an attack down would take longer
        further.append(check_large_budget(replace(runner, work=unsaved), FEW_PROBED))
    names = {check.name for check in further}
    kept = (check for check in runner.result.checks if check.name not in names)
    return replace(runner.result, checks=(*kept, *further))


def run_full_checks(runner: CheckRunner) -> list[Check]:
    """Return the checks of ``checks="full"``."""
    result, name = runner.result, runner.request.name
    knows_pgd = knows_norm(get_attack("pgd"), result.norm)  # and so FGSM and noise
    found = [check_no_budget(runner), check_large_budget(runner), check_monotone(runner)]
    if name not in ("fgsm", "noise") and knows_pgd:
        found.append(check_strength_order(runner))
    if name not in ("square", "autoattack", "strong") and knows_norm(get_attack("square"), result.norm):
        found.append(check_black_box(runner))
    found.append(check_convergence(runner))
    doubts = {check.name for check in result.checks if check.verdict in ("WARN", "FAIL")}
    if knows_pgd and "zero gradient" in doubts:
        found.append(check_margin_loss(runner))
    return found


def check_no_budget(runner: CheckRunner) -> Check:
    """Without a budget nothing may move."""
    result = runner.attack(runner.request.name, samples=PROBED, epsilon=0, **runner.request.options)
    goal = Goal(result.labels, result.targets)
    was_reached = goal.is_reached_by(result.clean_predictions)
    if float(result.perturbation_norms.max()) == 0 and bool((result.broken == was_reached).all()):
        return Check("no budget", "PASS", "with epsilon 0 the images come back as they are")
    return Check("no budget", "FAIL", f"with epsilon 0 images move by up to {float(result.perturbation_norms.max()):g}")


def check_large_budget(runner: CheckRunner, samples: int = PROBED) -> Check:
    """Where every image is within reach, no more than chance may be left (I6 of Pintor et al. 2022).

    An attack without gradients is judged by Square. A few samples only warn, and not where those that are left are all
    of one class: so are those of a network that answers with it whatever the image.
    """
    is_blind = runner.result.gradient_evaluations == 0 and not bool(runner.result.broken.all())
    if is_blind and runner.samples.images.ndim > 4:
        return Check("large budget", "INFO", "not judged, as Square is for images (C, H, W)")
    # The whole box is the same in every norm.
    norm = runner.result.norm if not is_blind and knows_norm(get_attack("pgd"), runner.result.norm) else "linf"
    whole = get_norm(norm).widest(runner.samples.images[0].numel())
    own: dict[str, Any]
    if is_blind:
        name, own = "square", {"queries": BLACK_BOX_QUERIES, "rescale": True}
    else:
        name, own = "pgd", {"steps": 100, "loss": _loss_of(runner.request)}
    result = runner.attack(name, samples=samples, epsilon=whole, norm=norm, is_probed=False, **own)
    classes, left = int(max(result.labels.max(), result.clean_predictions.max())) + 1, result.labels[~result.broken]
    how = f"{BLACK_BOX_QUERIES} queries of Square" if is_blind else "100 steps of PGD"
    detail = f"with epsilon {whole:g}, {result.robust_accuracy:.1%} of {result.n} samples withstand {how}"
    is_few = samples < PROBED
    if result.robust_accuracy <= 1 / classes or (is_few and len(set(left.tolist())) == 1):
        return Check("large budget", "PASS", detail)
    advice = "try another loss, or attack without gradients ('square')"
    return Check("large budget", "WARN" if is_few else "FAIL", f"{detail}, more than guessing gets; {advice}")


def _loss_of(request: Attack) -> Any:
    """Return the loss that an attack was asked to use, or has in its name."""
    if ":" not in request.name and "loss" in request.options:
        return request.options["loss"]
    if request.name in ("pgd-margin", "apgd-t", "fab-t", "ddn", "fmn", "quick", "medium", "strong", "autoattack"):
        return "margin"
    return "dlr" if request.name in ("pgd-dlr", "apgd-dlr") else "ce"


def check_monotone(runner: CheckRunner) -> Check:
    """Half the budget cannot do more harm than the whole, beyond what chance does."""
    result = runner.result
    epsilon = result.epsilon // 2 if result.norm == "l0" else result.epsilon / 2  # one in L0 is a whole number
    half = runner.attack(runner.request.name, epsilon=epsilon, **runner.request.options)
    share = result.robust_accuracy
    noise = 1.96 * math.sqrt(max(share * (1 - share), 1 / result.n) / result.n)
    detail = f"robust accuracy is {half.robust_accuracy:.4f} at half of epsilon and {share:.4f} at the whole"
    return Check("monotone", "PASS" if half.robust_accuracy >= share - noise else "WARN", detail)


def check_strength_order(runner: CheckRunner) -> Check:
    """One step, or noise, must not break what many steps do not."""
    weak = {name: runner.attack(name).robust_accuracy for name in ("fgsm", "noise")}
    detail = ", ".join(f"{name} leaves {share:.4f}" for name, share in weak.items())
    own = runner.result.robust_accuracy
    is_beaten = min(weak.values()) < own - MOST_FURTHER
    return Check("strength order", "WARN" if is_beaten else "PASS", f"{detail}, this {own:.4f}")


def check_black_box(runner: CheckRunner) -> Check:
    """An attack without gradients must not find what one with gradients missed."""
    square = runner.attack("square", samples=PROBED, queries=BLACK_BOX_QUERIES, rescale=True)
    further = further_broken(square, runner.result)
    detail = f"{BLACK_BOX_QUERIES} queries without gradients break a further {further:.2%} of {square.n} samples"
    return Check("black box", "WARN" if further > MOST_FURTHER else "PASS", detail)


def check_convergence(runner: CheckRunner) -> Check:
    """Twice the steps, or the restarts, must not find much more."""
    result, options = runner.result, dict(runner.request.options)
    known = attack_options(runner.request.name)
    changes: dict[str, Any] = {"restarts": 2 * result.options["restarts"]}
    if "steps" in known:
        changes, options["steps"] = {}, 2 * options.get("steps", known["steps"])
    doubled = runner.attack(runner.request.name, previous=result, **(options | changes))
    drop = result.robust_accuracy - doubled.robust_accuracy
    what = "steps" if "steps" in known else "restarts"
    detail = f"twice the {what} lower the robust accuracy by {drop:.2%}"
    return Check("convergence", "WARN" if drop > MOST_FURTHER else "PASS", detail)


def check_margin_loss(runner: CheckRunner) -> Check:
    """Where gradients vanish in the loss, another loss may see."""
    other = runner.attack("pgd", loss="margin", steps=20)
    further = further_broken(other, runner.result)
    detail = f"PGD on the margin leaves {other.robust_accuracy:.4f}, this {runner.result.robust_accuracy:.4f}"
    return Check("margin loss", "WARN" if further > MOST_FURTHER else "PASS", detail)


def check_third_party(runner: CheckRunner) -> list[Check]:
    """Return the checks of an attack of another package; none of any other attack."""
    measures: list[str] | None = getattr(get_attack(runner.request.name), "measures", None)
    if measures is None:
        return []
    with run_uncompiled(runner.model):
        step = runner.attack("fgsm", frozen=False)
    has_gradient = all(check.verdict != "FAIL" for check in step.checks if check.name == "graph")
    return [
        check_norm_of(measures, runner.result.norm),
        check_single_step(runner.result.broken, step.broken if has_gradient else None),
    ]


def check_norm_of(measures: list[str], norm: str) -> Check:
    """An attack that measures in none of our norms is moved into a ball it knows nothing of."""
    if norm in map(str.lower, measures):
        return Check("norm", "PASS", f"the attack works in {norm}")
    detail = (
        f"the attack works in {' and '.join(measures) or 'no norm'}: what it finds is moved into the ball of {norm}, "
        f"where it mostly is no longer adversarial; attack with 'pgd'"
    )
    return Check("norm", "WARN", detail)


def check_single_step(broken: Tensor, by_step: Tensor | None) -> Check:
    """An attack must not leave more samples than a step of FGSM does, beyond what chance allows.

    Of the samples that only one of the two broke, the step may have more up to 1.645 standard deviations of a fair coin
    (McNemar 1947, one-sided at 5 %), which are those of the same samples. Both are (N,) bool; None where the step found
    no gradient.
    """
    if by_step is None:
        return Check("single step", "WARN", "a step of FGSM finds no gradient: the logits are cut off from the input")
    only_step, only_attack = int((by_step & ~broken).sum()), int((broken & ~by_step).sum())
    left, left_by_step = (1 - float(each.double().mean()) for each in (broken, by_step))
    detail = f"a step of FGSM leaves {left_by_step:.4f}, this {left:.4f}"
    if only_step - only_attack <= ONE_SIDED * math.sqrt(only_step + only_attack):
        return Check("single step", "PASS", detail)
    advice = "its own may be too short or too few for this epsilon, see its options, or attack with 'pgd'"
    return Check("single step", "WARN", f"{detail}: the attack is weaker than one step; {advice}")
