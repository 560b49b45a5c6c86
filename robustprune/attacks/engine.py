"""Runs any attack: guards the model, hands the attack its problem, and judges what comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.attacks import checks
from robustprune.attacks.guard import guarded, training_submodules
from robustprune.attacks.ledger import Tally
from robustprune.attacks.registry import expand_options, get_attack
from robustprune.attacks.result import AttackResult, Check
from robustprune.attacks.settings import check_samples, check_settings
from robustprune.attacks.waves import Outcome, Progress, Run, join, split_waves
from robustprune.inference import Array, model_device


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
    device: torch.device | str | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> AttackResult:
    """Attack a model and say how far the outcome can be believed.

    The model is attacked in evaluation mode and left as it was: modes, gradients, buffers, global random
    state, also after an error. Samples it misclassifies to begin with are broken and not attacked.

    Args:
        model: Maps float images in [0, 1] to logits (N, K); normalization is inside it.
        images: (N, …), uint8 or float in [0, 1].
        labels: (N,) integers 0…K−1.
        attack: Name of the attack; `robustprune.attacks.ATTACKS` has them all.
        epsilon: Budget in units of [0, 1] pixels: a number, or a fraction such as ``"8/255"``.
        norm: ``"linf"`` or ``"l2"``.
        seed: Keys the random draws, together with sample id and restart.
        restarts: Runs of the attack; each further one on the survivors only, and none once an attack has
            drawn nothing at random, as it would repeat itself.
        batch_size: Samples per forward pass. Does not change the outcome beyond rounding.
        sample_ids: (N,) integers that say which sample is which, so that a subset gets the random draws it
            would get within the whole; 0…N−1 by default.
        early_stop: Stop computing a sample once it is broken. Otherwise all go on to the end of each
            restart, as in textbook implementations.
        selection: Which point is returned: ``"best"``, the first misclassified one (with early stopping;
            the one of highest loss among them without), else the one of highest loss, or ``"last"``, the last
            one the attack asked about.
        expected_clean_accuracy: What the caller measured on the same samples; a check compares.
        device: Where to compute; must be where the model is.
        progress: Called with (work done, total work), rising to equality.
        **options: Those of the attack; see `attack_options`.

    Raises:
        AttackError: Values that make no sense, unknown options, images outside [0, 1], a model whose clean
            logits are not finite.
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
    )
    expanded = expand_options(attack, options)
    samples = check_samples(images, labels, sample_ids)
    place = model_device(model, device)
    work = Progress(progress, len(samples), settings, expanded)
    run = Run(model, get_attack(attack), expanded, settings, work)
    training_before = training_submodules(model)
    with guarded(model):
        training_during = training_submodules(model)
        outcome = join(run.attack_wave(wave, place) for wave in split_waves(samples, settings.batch_size))
        training_during = training_during or training_submodules(model)
    verdicts = _judge(outcome, run.tally, settings.epsilon, expected_clean_accuracy)
    return AttackResult(
        attack=attack,
        norm=settings.norm.name,
        epsilon=settings.epsilon,
        options={
            **expanded,
            **run.details,
            **settings.shared_options(),
            # Without a random draw there was one run, whatever was asked for.
            "restarts": settings.restarts if run.is_random else 1,
        },
        **vars(outcome),
        checks=(checks.check_mode(training_before, training_during), *verdicts),
        gradient_evaluations=run.tally.gradients,
        forward_evaluations=run.tally.forwards,
        seconds=time.perf_counter() - started,
    )


def _judge(outcome: Outcome, tally: Tally, epsilon: float, expected: float | None) -> list[Check]:
    verdicts = [
        checks.check_range(),
        checks.check_graph(tally),
        checks.check_zero_gradient(tally),
        checks.check_containment(outcome.adversarial, outcome.perturbation_norms, epsilon),
        checks.check_sample_size(outcome.broken),
    ]
    if expected is not None:
        is_correct = outcome.clean_predictions == outcome.labels
        verdicts.append(checks.check_clean_agreement(float(is_correct.double().mean()), expected, len(is_correct)))
    return verdicts
