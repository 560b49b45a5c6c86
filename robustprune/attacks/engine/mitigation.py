"""What the doubtful checks of a result suggest, carried out: a remedy after the other, each on what is left.

The remedies are those of Pintor et al. 2022 (arXiv:2106.09947) as far as attacks and their options express them:
gradients averaged over draws, the best point, another loss, more and longer steps, no gradients at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from robustprune.attacks.engine.attack_result import AttackResult, Check
from robustprune.attacks.engine.full_checks import FEW_PROBED, SHARED, CheckRunner, check_large_budget
from robustprune.attacks.engine.joint_results import any_of, as_one
from robustprune.attacks.registry import attack_options, get_attack, is_minimum_norm, knows_norm, phases_of
from robustprune.attacks.requests import Attack
from robustprune.registry import with_options

DRAWS = 20
"""Passes whose mean leads an attack on a network that draws at random."""
QUERIES = 2000
DOUBLINGS = 4
FEWEST_STEPS = 20
_OF_THE_OUTCOME = ("sample size", "containment")


@dataclass(frozen=True)
class Remedy:
    """An attack that answers some checks: made of the one in doubt, or None where it would be no other."""

    answers: tuple[str, ...]
    attack: Callable[[Attack], Attack | None]


def mitigate(runner: CheckRunner, previous: AttackResult | None = None) -> AttackResult:
    """Return the runner's result with what its doubtful checks suggest: as `mitigated`, and in the details of these.

    What is broken stays broken, also by what an earlier result, of a smaller budget, was mitigated with. Only a network
    that draws at random is attacked anew, as its result was judged by other draws.
    """
    result, earlier = runner.result, None if previous is None else previous.mitigated
    doubts = {check.name for check in result.checks if check.verdict in ("WARN", "FAIL")}
    is_random = any(check.name == "randomness" and check.verdict == "FAIL" for check in result.checks)
    doubts -= set() if is_random else {"randomness", "clean agreement"}
    best = result if earlier is None else any_of([result, earlier], result.attack)
    runs: list[AttackResult] = []
    answers: dict[str, tuple[AttackResult, Check, float]] = {}
    request = runner.request
    for remedy in REMEDIES:
        open_doubts = [name for name in remedy.answers if name in doubts]
        asked = remedy.attack(request) if open_doubts else None
        if asked is None:
            continue
        is_anew = "randomness" in open_doubts
        found = _run(runner, asked, earlier if is_anew else best)
        if "large budget" in open_doubts:
            probe = check_large_budget(replace(runner, result=found, request=asked), FEW_PROBED)
            found = replace(found, checks=(*found.checks, probe))
        verdicts = {check.name: check for check in found.checks}
        for name in open_doubts:
            check = verdicts.get(name, Check(name, "INFO", "answered by another attack"))
            answers[name] = found, check, (best if runs else result).robust_accuracy
            if check.verdict in ("PASS", "INFO"):
                doubts.discard(name)
        best = found
        runs.append(found)
        request = asked if is_anew else request
    if not runs and not bool((best.broken & ~result.broken).any()):
        return result
    mitigated = as_one([result, *runs, *([] if runs else [best])], f"mitigated:{result.attack}")
    mitigated = replace(mitigated, checks=tuple(_merged(check, answers, mitigated) for check in result.checks))
    told = tuple(_told(check, answers) for check in result.checks)
    return replace(result, checks=told, mitigated=mitigated)


def _run(runner: CheckRunner, asked: Attack, previous: AttackResult | None) -> AttackResult:
    """Run a remedy; one of more steps again with twice as many, until the loss no longer rises at its end."""
    while True:
        found = runner.run(
            runner.model,
            runner.samples,
            asked,
            previous=previous,
            work=runner.work,
            expected_clean_accuracy=runner.expected_clean_accuracy,
        )
        is_rising = any(check.name == "convergence" and check.verdict == "WARN" for check in found.checks)
        steps = asked.options.get("steps", 0)
        if not is_rising or not steps or steps >= FEWEST_STEPS * 2**DOUBLINGS:
            return found
        previous, asked = found, _labelled(asked, asked.name, {**asked.options, "steps": 2 * steps})


def _labelled(request: Attack, name: str, options: dict[str, object], **fields: object) -> Attack:
    """Return an attack with the budget and the draws of a request, called by its name with all that is its own."""
    shared = request.model_dump(include=SHARED)
    if phases_of(get_attack(name)):  # remedies attack all that is left, in one phase
        options = {key: value for key, value in options.items() if key != "sample"}
    label = with_options(name, {**options, **fields})
    return Attack(name, label=label, options=options, **{**shared, **fields})


def _over_draws(request: Attack) -> Attack | None:
    if is_minimum_norm(get_attack(request.name)):
        return _labelled(request, "pgd", {}, eot=DRAWS)
    return _labelled(request, request.name, request.options, eot=DRAWS)


def _best_point(request: Attack) -> Attack | None:
    return _labelled(request, request.name, request.options, selection="best")


def _other_loss(request: Attack) -> Attack | None:
    if not knows_norm(get_attack("pgd"), request.norm) or request.options.get("loss", request.name) in (
        *("margin", "dlr", "pgd-margin", "pgd-dlr", "apgd-dlr", "quick", "medium", "strong", "autoattack"),
    ):
        return None
    return _labelled(request, "pgd-margin", {"steps": max(FEWEST_STEPS, _steps_of(request))})


def _more_steps(request: Attack) -> Attack | None:
    """Return the attack with twice its steps, of a length of its own; one that has none becomes PGD."""
    steps = 2 * max(_steps_of(request), FEWEST_STEPS // 2)
    if ":" not in request.name and "steps" in attack_options(request.name):
        own = {key: value for key, value in request.options.items() if key != "step_size"}
        return _labelled(request, request.name, {**own, "steps": steps})
    if not knows_norm(get_attack("pgd"), request.norm):
        return None
    return _labelled(request, "pgd", {"steps": steps})


def _without_gradients(request: Attack) -> Attack | None:
    if not knows_norm(get_attack("square"), request.norm):
        return None
    if request.name == "square":
        queries = 2 * request.options.get("queries", attack_options("square")["queries"])
        return _labelled(request, "square", {**request.options, "queries": queries})
    return _labelled(request, "square", {"queries": QUERIES, "rescale": True})


def _steps_of(request: Attack) -> int:
    if ":" in request.name:
        return 0
    steps = {**attack_options(request.name), **request.options}.get("steps", 0)
    return steps if isinstance(steps, int) else 0


REMEDIES = (
    Remedy(("randomness", "clean agreement"), _over_draws),
    Remedy(("silent success",), _best_point),
    Remedy(("zero gradient", "logits", "margin loss", "large budget"), _other_loss),
    Remedy(("convergence", "strength order", "monotone", "single step", "norm"), _more_steps),
    Remedy(("graph", "zero gradient", "stability", "large budget", "black box"), _without_gradients),
)
"""In this order; a check that a remedy still leaves in doubt is answered by the next that knows it."""


def _merged(check: Check, answers: dict[str, tuple[AttackResult, Check, float]], mitigated: AttackResult) -> Check:
    """Return what holds of the mitigated result: of a check that was answered, what the last answer says."""
    if check.name in _OF_THE_OUTCOME:
        return next(each for each in mitigated.checks if each.name == check.name)
    if check.name not in answers:
        return check
    found, own, _ = answers[check.name]
    return Check(check.name, own.verdict, f"{found.attack}: {own.detail}")


def _told(check: Check, answers: dict[str, tuple[AttackResult, Check, float]]) -> Check:
    if check.name not in answers:
        return check
    found, _, before = answers[check.name]
    told = f"mitigated with {found.attack}: robust accuracy {before:.2%} → {found.robust_accuracy:.2%}"
    return replace(check, detail=f"{check.detail}; {told}")
