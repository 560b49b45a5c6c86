"""An ensemble in two phases: parts that break nearly everything attack all samples, the others some of the survivors.

What a part does to a sample depends on no other sample. So the second phase breaks a sampled survivor exactly where the
whole ensemble on all samples does, and its count among all survivors has a hypergeometric sampling distribution. Each
attack and each budget draws anew: what a smaller budget drew and did not break is tougher than other survivors, and no
random sample of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from robustprune.attacks.engine.attack_result import AttackResult, Check, SampledPhase
from robustprune.attacks.engine.checks import check_sample_size
from robustprune.attacks.engine.joint_results import as_one
from robustprune.attacks.engine.samples import Samples
from robustprune.attacks.registry import attack_options, get_attack, phases_of
from robustprune.attacks.requests import Attack, at_least_one
from robustprune.errors import AttackError
from robustprune.metrics.sampling import count_interval
from robustprune.runtime.randomness import derive_seed

MANY_SAMPLES = 1000
"""``sample="auto"`` draws a sample of the survivors where there are more samples than these."""
USUAL_SAMPLE = 400

_OF_EACH_SAMPLE = ("adversarial", "broken", "adversarial_predictions", "perturbation_norms")


def sample_size(request: Attack, options: Mapping[str, Any], n: int) -> int | None:
    """Return how many survivors the second phase of an attack is to see; None where it has none, or is to see all.

    Raises:
        AttackError: It is no count, or what is asked for cannot be done in two phases.
    """
    name = request.name
    size = options.get("sample") if phases_of(get_attack(name)) else "all"
    if size == "all":
        return None
    has_own_parts = options["attacks"] != attack_options(name)["attacks"]
    if size == "auto":
        return USUAL_SAMPLE if n > MANY_SAMPLES and not has_own_parts and request.eot == 1 else None
    if isinstance(size, str):
        raise AttackError(f"sample must be a number of survivors, 'all' or 'auto', got {size!r}")
    if has_own_parts:
        raise AttackError("the two phases have parts of their own: give either sample or attacks")
    if request.eot > 1:
        raise AttackError(
            "a network that draws at random answers otherwise where other samples are beside a survivor, so a sample "
            "of them says nothing of the others: leave eot at 1, or sample at 'all'"
        )
    return at_least_one("sample", size)


def attack_in_two_phases(
    attack: Callable[[Samples, Attack, AttackResult | None], AttackResult],
    samples: Samples,
    request: Attack,
    size: int,
    previous: AttackResult | None,
) -> AttackResult:
    """Return what the first phase of an ensemble broke, and what the second did of ``size`` of the survivors.

    Args:
        attack: Runs a request on samples, on top of an earlier result.
        samples: All of them.
        request: What is asked for; its attack has ``phases``.
        size: How many survivors the second phase attacks, drawn at random.
        previous: Of an earlier attack on all samples.
    """

    def phase(number: int) -> Attack:
        options = {**request.options, "sample": "all", "attacks": phases_of(get_attack(request.name))[number]}
        return request.model_copy(update={"options": options, "mitigate": False})

    first = attack(samples, phase(0), previous)
    survivors = (~first.broken).nonzero()[:, 0]
    chosen = draw_survivors(survivors, samples.ids, size, request)
    if not len(chosen):
        return _with_account(
            first, SampledPhase(0, 0, 0, (first.robust_accuracy,) * 2, _passes(first)), request.name, size
        )
    second = attack(samples.part(chosen), phase(1), None)
    few, many = count_interval(int(second.broken.sum()), len(chosen), len(survivors))
    account = SampledPhase(
        survivors=len(survivors),
        sampled=len(chosen),
        broken=int(second.broken.sum()),
        interval=((len(survivors) - many) / len(samples), (len(survivors) - few) / len(samples)),
        passes=_passes(first) + round(_passes(second) * len(survivors) / len(chosen)),
    )
    return _with_account(_merge(first, second, chosen), account, request.name, size)


def draw_survivors(survivors: Tensor, ids: list[int], size: int, request: Attack) -> Tensor:
    """Return the places (m,) of at most ``size`` survivors, rising: those whose ids draw the lowest numbers."""
    what = (request.seed, "second phase", request.label, request.norm, str(request.epsilon))
    drawn = sorted(survivors.tolist(), key=lambda place: derive_seed(*what, ids[place]))
    return torch.tensor(sorted(drawn[:size]), dtype=torch.long)


def _merge(first: AttackResult, second: AttackResult, chosen: Tensor) -> AttackResult:
    """Return the first result with what the second broke of the samples that were chosen."""
    found = {name: getattr(first, name).clone() for name in (*_OF_EACH_SAMPLE, "broken_at_step", "queries")}
    places, own = chosen[second.broken], second.broken.nonzero()[:, 0]
    for name in _OF_EACH_SAMPLE:
        found[name][places] = getattr(second, name)[own]
    found["broken_at_step"][places] = second.broken_at_step[own] + first.queries[places]
    found["queries"][chosen] += second.queries
    broken_by = list(first.broken_by)
    for place, number in zip(places.tolist(), own.tolist(), strict=True):
        broken_by[place] = second.broken_by[number]
    together = as_one([second, first], first.attack)
    checks = [check_sample_size(found["broken"]) if each.name == "sample size" else each for each in together.checks]
    before, after = first.options["stages"], second.options["stages"]
    stages = before | after
    for name in before.keys() & after.keys():  # a part that begins in the first phase and ends in the second
        stages[name] = after[name] | {"first_class": before[name]["first_class"]}
    options = {**first.options, "stages": stages, "restarts": together.options["restarts"]}
    return replace(together, **found, broken_by=broken_by, options=options, checks=tuple(checks))


def _with_account(result: AttackResult, account: SampledPhase, name: str, size: int) -> AttackResult:
    low, high = account.interval
    second = " and ".join(phases_of(get_attack(name))[1].replace("+", ", ").rsplit(", ", 1))
    said = (
        f"{second} attacked {account.sampled} of {account.survivors} survivors and broke {account.broken}; on all "
        f"of them the robust accuracy is in [{low:.4f}, {high:.4f}] (95 %, exact)"
    )
    options = {**result.options, "sample": size}
    del options["attacks"]
    return replace(result, options=options, checks=(*result.checks, Check("sampled", "INFO", said)), sampled=account)


def _passes(result: AttackResult) -> int:
    return result.gradient_evaluations + result.forward_evaluations
