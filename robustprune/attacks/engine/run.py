"""Runs any attack: guards the model, hands the attack its problem, and judges what comes back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.attacks.engine import checks as verdicts
from robustprune.attacks.engine.carrying import carry_over, carry_points
from robustprune.attacks.engine.foreign_checks import check_foreign
from robustprune.attacks.engine.guard import guarded, training_submodules
from robustprune.attacks.engine.probes import probe_model
from robustprune.attacks.engine.result import AttackResult, Check
from robustprune.attacks.engine.settings import Samples, check_samples
from robustprune.attacks.engine.sharing import Found, block_of, own_share, together
from robustprune.attacks.engine.state import SUFFIX, SavedState, state_key
from robustprune.attacks.engine.thorough import Examiner, check_thoroughly
from robustprune.attacks.engine.waves import Outcome, Run, WorkDone, join, split_waves
from robustprune.attacks.registry import check_norm, expand_options, get_attack
from robustprune.attacks.requests import Attack
from robustprune.models import as_network, model_device
from robustprune.runtime.arrays import Array
from robustprune.runtime.work import Work, keep_freed_memory, labelled

NO_WORK = Work()


def run_attack(
    model: nn.Module,
    images: Array,
    labels: Array,
    attack: str | Attack = "pgd",
    *,
    targets: Array | None = None,
    sample_ids: Sequence[int] | Tensor | None = None,
    carry: AttackResult | None = None,
    expected_clean_accuracy: float | None = None,
    work: Work = NO_WORK,
    **settings: Any,
) -> AttackResult:
    """Attack a model and say how far the outcome can be believed.

    The model is attacked in evaluation mode and left as it was: modes, gradients, buffers, global random
    state, also after an error. Samples it misclassifies to begin with are broken and not attacked.

    Args:
        model: Maps float images in [0, 1] to logits (N, K); normalization is inside it. A plain function will do.
        images: (N, …), uint8 or float in [0, 1]: a tensor, an array or a list of either, as labels and targets.
        labels: (N,) integers 0…K−1.
        attack: Name of the attack; `robustprune.attacks.ATTACKS` has them all; or all that is asked for.
        targets: (N,) integers, the class each sample is to be mistaken for, for a targeted attack.
        sample_ids: (N,) integers that say which sample is which, so that a subset gets the random draws it
            would get within the whole; 0…N−1 by default.
        carry: Result of an earlier attack on the same samples with no larger budget: what it broke is not
            attacked again.
        expected_clean_accuracy: What the caller measured on the same samples; a check compares.
        work: Processes that share the samples, each calling this alike; whom to tell of progress; a folder that keeps
            finished parts of the attack, from which an interrupted one is picked up, and one that was finished is only
            judged anew.
        **settings: Fields of `Attack`, such as ``epsilon="8/255"``, and options of the attack (`attack_options`).

    Raises:
        AttackError: Values that make no sense, unknown options, a norm that the attack does not know, images outside
            [0, 1], a model whose clean logits are not finite, a state file that is damaged.
        UnknownNameError: There is no attack of that name.
        ModelError: The model cannot run on these images.
    """
    started = time.perf_counter()
    request = Attack.asked(attack, **settings)
    name, processes = request.name, work.processes
    check_norm(get_attack(name), name, request.norm)
    expanded = expand_options(name, request.options)
    model, samples = as_network(model), check_samples(images, labels, sample_ids, targets)
    samples = carry_points(samples, carry, request)
    place = model_device(model)
    block = block_of(name, request.batch_size)
    own = own_share(samples, processes, block)
    progress = labelled(work.progress, f"{name} ε={request.epsilon:.4g}")
    saved = None
    if work.folder is not None:
        key = state_key(model, own, request, expanded)
        saved = SavedState(Path(work.folder) / f"{key}{SUFFIX}", key, started)
    run = Run(model, get_attack(name), expanded, request, WorkDone(progress, len(own), request, expanded), saved)
    training_before = training_submodules(model)
    keep_freed_memory()
    with guarded(model, request.seed):
        found = together(lambda: _attack(run, own, place, name), processes, block)
        checks_of_model = probe_model(model, samples, found.clean_logits, request, place, found.tally)
        checks_of_model += check_foreign(
            run.attack, model, samples, found.outcome.broken, found.clean_logits, request, place
        )
        if expected_clean_accuracy is not None:
            checks_of_model.append(_compare_clean(found.outcome, request, expected_clean_accuracy))
        training_during = found.training or training_submodules(model)
    result = AttackResult(
        attack=name,
        norm=request.norm,
        epsilon=request.epsilon,
        options=_all_options(found, expanded, request),
        **{name: value for name, value in vars(found.outcome).items() if name != "broken_in_stage"},
        broken_by=found.broken_by,
        targets=samples.targets,
        checks=(
            verdicts.check_mode(training_before, training_during),
            *_judge(found, request),
            *checks_of_model,
        ),
        gradient_evaluations=found.tally.gradients,
        forward_evaluations=found.tally.forwards,
        seconds=0.0,  # known once all is done
    )
    result = carry_over(result, carry)
    if request.checks == "full":
        further = check_thoroughly(Examiner(run_attack, model, samples, result, request, processes))
        result = replace(result, checks=(*result.checks, *further))
    return replace(result, seconds=found.tally.earlier_seconds + time.perf_counter() - started)


def _attack(run: Run, samples: Samples, place: torch.device, attack: str) -> Found | None:
    """Attack the samples, in waves; of no samples nothing is found."""
    if len(samples) == 0:
        return None
    training = training_submodules(run.model)
    outcome = join(run.attack_wave(wave, place) for wave in split_waves(samples))
    return Found(
        outcome=outcome,
        clean_logits=torch.cat(run.clean_logits),
        broken_by=_names(outcome, run.stages, attack),
        tally=run.tally,
        details=run.details,
        is_random=run.is_random,
        is_frozen=run.replica.is_used,
        training=training,
    )


def _all_options(found: Found, expanded: dict[str, Any], request: Attack) -> dict[str, Any]:
    return {
        **expanded,
        **found.details,
        **request.account,
        "frozen": found.is_frozen,
        # Without a random draw there was one run, whatever was asked for.
        "restarts": request.restarts if found.is_random else 1,
    }


def _names(outcome: Outcome, stages: list[str], attack: str) -> list[str]:
    names = [stage or attack for stage in stages]
    found = zip(outcome.broken.tolist(), outcome.broken_at_step.tolist(), outcome.broken_in_stage.tolist(), strict=True)
    return ["" if not broken else "clean" if step == 0 else names[stage] for broken, step, stage in found]


def _judge(found: Found, request: Attack) -> list[Check]:
    outcome, tally = found.outcome, found.tally
    return [
        verdicts.check_range(),
        verdicts.check_graph(tally),
        verdicts.check_zero_gradient(tally),
        verdicts.check_containment(outcome.adversarial, outcome.perturbation_norms, request.epsilon),
        verdicts.check_sample_size(outcome.broken),
    ]


def _compare_clean(outcome: Outcome, request: Attack, expected: float) -> Check:
    is_right = outcome.clean_predictions == outcome.labels
    accuracy = float(is_right.double().mean())
    return verdicts.check_clean_agreement(accuracy, expected, len(is_right), draws_at_random=request.eot > 1)
