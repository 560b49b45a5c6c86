"""Runs any attack: guards the model, hands the attack its problem, and judges what comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
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
from robustprune.attacks.engine.settings import Samples, Settings, check_samples, check_settings
from robustprune.attacks.engine.sharing import Found, block_of, own_share, together
from robustprune.attacks.engine.state import SavedState, state_key
from robustprune.attacks.engine.thorough import Examiner, check_thoroughly
from robustprune.attacks.engine.waves import Outcome, Progress, Run, join, split_waves
from robustprune.attacks.registry import check_norm, expand_options, get_attack
from robustprune.errors import AttackError
from robustprune.models import as_network, model_device
from robustprune.runtime.arrays import Array
from robustprune.runtime.processes import ALONE, Processes
from robustprune.runtime.work import keep_freed_memory


def run_attack(
    model: nn.Module,
    images: Array,
    labels: Array,
    attack: str = "pgd",
    *,
    epsilon: float | str | Fraction = 8 / 255,
    norm: str = "linf",
    seed: int = 0,
    restarts: int = 1,
    batch_size: int = 256,
    sample_ids: Sequence[int] | Tensor | None = None,
    early_stop: bool = True,
    selection: str = "best",
    expected_clean_accuracy: float | None = None,
    targets: Array | None = None,
    eot: int = 1,
    frozen: bool = True,
    carry: AttackResult | None = None,
    checks: str = "default",
    state: str | Path | None = None,
    device: torch.device | str | None = None,
    processes: Processes = ALONE,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> AttackResult:
    """Attack a model and say how far the outcome can be believed.

    The model is attacked in evaluation mode and left as it was: modes, gradients, buffers, global random
    state, also after an error. Samples it misclassifies to begin with are broken and not attacked.

    Args:
        model: Maps float images in [0, 1] to logits (N, K); normalization is inside it. A plain function will do.
        images: (N, …), uint8 or float in [0, 1]: a tensor, an array or a list of either, as labels and targets.
        labels: (N,) integers 0…K−1.
        attack: Name of the attack; `robustprune.attacks.ATTACKS` has them all.
        epsilon: Budget in units of [0, 1] pixels: a number, or a fraction such as ``"8/255"``.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        seed: Keys the random draws, together with sample id and restart.
        restarts: Runs of the attack; each further one on the survivors only, and none once an attack has
            drawn nothing at random, as it would repeat itself.
        batch_size: Samples per forward pass, fewer where memory runs out. Does not change the outcome beyond
            rounding.
        sample_ids: (N,) integers that say which sample is which, so that a subset gets the random draws it
            would get within the whole; 0…N−1 by default.
        early_stop: Stop computing a sample once it is broken. Otherwise all go on to the end of each
            restart, as in textbook implementations.
        selection: Which point is returned: ``"best"``, the first misclassified one (with early stopping;
            the one of highest loss among them without), else the one of highest loss, or ``"last"``, the last
            one the attack asked about.
        expected_clean_accuracy: What the caller measured on the same samples; a check compares.
        targets: (N,) integers, the class each sample is to be mistaken for, for a targeted attack.
        eot: Passes that stand for a network that draws at random (expectation over transformation, Athalye et
            al. 2018): the mean of the gradients of their losses leads the attack, which goes on to its end
            for every sample, ``early_stop`` or not, and returns the point whose mean logits have the largest margin.
            The verdict is that of one more pass, as it is on the images. Each of them is counted.
        frozen: Attack a frozen copy, which is faster; it is compared with the model before use, and success is
            always the model's own verdict.
        carry: Result of an earlier attack on the same samples with no larger budget: what it broke is not
            attacked again.
        checks: ``"default"``, or ``"full"`` for those that cost attacks of their own.
        state: File that keeps finished parts of the attack; an interrupted one is picked up from it, and one
            that was finished is only judged anew. To be deleted by whoever needs it no more.
        device: Where to compute; must be where the model is.
        processes: Those that share the samples, each calling this alike, with a ``state`` of its own; all are returned
            the result of all.
        progress: Called with (work done, total work), rising to equality.
        **options: Those of the attack; see `attack_options`.

    Raises:
        AttackError: Values that make no sense, unknown options, a norm that the attack does not know, images outside
            [0, 1], a model whose clean logits are not finite, a state file of another attack.
        UnknownNameError: There is no attack of that name.
        ModelError: The model cannot run on these images.
    """
    started = time.perf_counter()
    settings = check_settings(
        epsilon,
        norm,
        seed=seed,
        restarts=restarts,
        batch_size=batch_size,
        early_stop=early_stop,
        selection=selection,
        eot=eot,
        frozen=frozen,
    )
    if checks not in ("default", "full"):
        raise AttackError(f"checks must be 'default' or 'full', got {checks!r}")
    check_norm(get_attack(attack), attack, settings.norm.name)
    expanded = expand_options(attack, options)
    model, samples = as_network(model), check_samples(images, labels, sample_ids, targets)
    samples = carry_points(samples, carry, settings)
    place = model_device(model, device)
    block = block_of(attack, settings.batch_size)
    own = own_share(samples, processes, block)
    work = Progress(progress, len(own), settings, expanded)
    saved = SavedState(Path(state), state_key(model, own, attack, expanded, settings), started) if state else None
    run = Run(model, get_attack(attack), expanded, settings, work, saved)
    training_before = training_submodules(model)
    keep_freed_memory()
    with guarded(model, seed):
        found = together(lambda: _attack(run, own, place, attack), processes, block)
        checks_of_model = probe_model(model, samples, found.clean_logits, settings, place, found.tally)
        checks_of_model += check_foreign(
            run.attack, model, samples, found.outcome.broken, found.clean_logits, settings, place
        )
        if expected_clean_accuracy is not None:
            checks_of_model.append(_compare_clean(found.outcome, settings, expected_clean_accuracy))
        training_during = found.training or training_submodules(model)
    result = AttackResult(
        attack=attack,
        norm=settings.norm.name,
        epsilon=settings.epsilon,
        options=_all_options(found, expanded, settings),
        **{name: value for name, value in vars(found.outcome).items() if name != "broken_in_stage"},
        broken_by=found.broken_by,
        targets=samples.targets,
        checks=(
            verdicts.check_mode(training_before, training_during),
            *_judge(found, settings),
            *checks_of_model,
        ),
        gradient_evaluations=found.tally.gradients,
        forward_evaluations=found.tally.forwards,
        seconds=0.0,  # known once all is done
    )
    result = carry_over(result, carry)
    if checks == "full":
        further = check_thoroughly(Examiner(run_attack, model, samples, result, options, settings, processes))
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


def _all_options(found: Found, expanded: dict[str, Any], settings: Settings) -> dict[str, Any]:
    return {
        **expanded,
        **found.details,
        **settings.shared_options(),
        "frozen": found.is_frozen,
        # Without a random draw there was one run, whatever was asked for.
        "restarts": settings.restarts if found.is_random else 1,
    }


def _names(outcome: Outcome, stages: list[str], attack: str) -> list[str]:
    names = [stage or attack for stage in stages]
    found = zip(outcome.broken.tolist(), outcome.broken_at_step.tolist(), outcome.broken_in_stage.tolist(), strict=True)
    return ["" if not broken else "clean" if step == 0 else names[stage] for broken, step, stage in found]


def _judge(found: Found, settings: Settings) -> list[Check]:
    outcome, tally = found.outcome, found.tally
    return [
        verdicts.check_range(),
        verdicts.check_graph(tally),
        verdicts.check_zero_gradient(tally),
        verdicts.check_containment(outcome.adversarial, outcome.perturbation_norms, settings.epsilon),
        verdicts.check_sample_size(outcome.broken),
    ]


def _compare_clean(outcome: Outcome, settings: Settings, expected: float) -> Check:
    is_right = outcome.clean_predictions == outcome.labels
    accuracy = float(is_right.double().mean())
    return verdicts.check_clean_agreement(accuracy, expected, len(is_right), draws_at_random=settings.eot > 1)
