"""Runs any attack: guards the model, hands the attack its samples, and judges what comes back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from robustprune.attacks.engine import checks as verdicts
from robustprune.attacks.engine.attack_result import AttackResult, Check
from robustprune.attacks.engine.samples import Samples, carry_over, carry_points, check_samples
from robustprune.attacks.engine.thorough import Examiner, check_third_party, check_thoroughly
from robustprune.attacks.engine.waves import Found, PerSample, WaveRunner, WorkDone, merge, neighbours
from robustprune.attacks.registry import check_norm, expand_options, get_attack
from robustprune.attacks.requests import Attack
from robustprune.errors import AttackError
from robustprune.models import as_network, evaluation_mode, frozen_parameters, model_device
from robustprune.runtime.arrays import Array
from robustprune.runtime.randomness import derive_seed, isolated_generators
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
    check_norm(get_attack(request.name), request.name, request.norm)
    options = expand_options(request.name, request.options)
    model, samples = as_network(model), check_samples(images, labels, sample_ids, targets)
    samples = carry_points(samples, carry, request)
    training_before = training_submodules(model)
    keep_freed_memory()
    with guarded(model, request.seed):
        training_during = training_submodules(model)
        found, outcome = _attack(model, samples, request, options, work, started)
        checks_of_model = verdicts.probe_model(model, samples, outcome.clean_logits, request.eot, found.tally)
        checks_of_model += check_third_party(get_attack(request.name), model, samples, outcome, request)
        training_during = training_during or training_submodules(model)
    if expected_clean_accuracy is not None:
        checks_of_model.append(_compare_clean(outcome, request, expected_clean_accuracy))
    result = AttackResult(
        attack=request.name,
        norm=request.norm,
        epsilon=request.epsilon,
        options=_all_options(found, options, request),
        **{name: value for name, value in vars(outcome).items() if name not in ("stage", "clean_logits")},
        broken_by=_names(outcome, found.stages, request.name),
        targets=samples.targets,
        checks=(
            verdicts.check_mode(training_before, training_during),
            *_judge(found, outcome, request),
            *checks_of_model,
        ),
        gradient_evaluations=found.tally.gradients,
        forward_evaluations=found.tally.forwards,
        seconds=0.0,  # known once all is done
    )
    result = carry_over(result, carry)
    if request.checks == "full":
        further = check_thoroughly(Examiner(run_attack, model, samples, result, request, work.processes))
        result = replace(result, checks=(*result.checks, *further))
    return replace(result, seconds=found.tally.earlier_seconds + time.perf_counter() - started)


class ImageAttack(Protocol):
    """(model, images, labels, *, epsilon=…, …) → images."""

    def __call__(self, model: nn.Module, images: Array, labels: Array, **settings: Any) -> Tensor:
        """Return images (N, …) in [0, 1] within ε; see `run_attack`."""
        ...


def image_attack(name: str) -> ImageAttack:
    """Return the attack called ``name`` as a function that returns the images only."""

    def attack(model: nn.Module, images: Array, labels: Array, **settings: Any) -> Tensor:
        found = run_attack(model, images, labels, name, **settings).adversarial
        return found.to(images.device) if isinstance(images, Tensor) else found

    attack.__name__ = attack.__qualname__ = name.partition("-")[0]
    attack.__doc__ = f"""Return images (N, …) that the attack ``{name}`` made, on the device of ``images``.

    Samples that are misclassified to begin with come back as they are; `run_attack` says which, and whether the model
    could be attacked at all.

    Args:
        model: Maps float images in [0, 1] to logits (N, K).
        images: (N, …), uint8 or float in [0, 1].
        labels: (N,) integers.
        **settings: Those of `run_attack`, such as ``epsilon="8/255"``, and the options of ``{name}``. For the textbook
            version, which returns the last point of all samples: ``early_stop=False, selection="last"``.

    Raises:
        AttackError: As `run_attack`.
    """
    return attack


def _attack(
    model: nn.Module, samples: Samples, request: Attack, options: dict[str, Any], work: Work, started: float
) -> tuple[Found, PerSample]:
    """Attack this process's share of the samples, and return what all processes found."""
    processes, block = work.processes, neighbours(request)
    own = samples if processes.is_alone else samples.part(processes.share(len(samples), block))
    report = labelled(work.progress, f"{request.name} ε={request.epsilon:.4g}")
    runner = WaveRunner(model, get_attack(request.name), options, request, WorkDone(report, len(own), request, options))
    with processes.agreement():
        share = runner.run(own, model_device(model), work, started) if len(own) else None
    found = merge(processes.gather(share), processes, block)
    assert found.samples is not None
    return found, found.samples


def _all_options(found: Found, options: dict[str, Any], request: Attack) -> dict[str, Any]:
    return {
        **options,
        **found.details,
        **request.account,
        "frozen": found.is_frozen,
        # Without a random draw there was one run, whatever was asked for.
        "restarts": request.restarts if found.is_random else 1,
    }


def _names(outcome: PerSample, stages: list[str], attack: str) -> list[str]:
    names = [stage or attack for stage in stages]
    found = zip(outcome.broken.tolist(), outcome.broken_at_step.tolist(), outcome.stage.tolist(), strict=True)
    return ["" if not broken else "clean" if step == 0 else names[stage] for broken, step, stage in found]


def _judge(found: Found, outcome: PerSample, request: Attack) -> list[Check]:
    return [
        verdicts.check_range(),
        verdicts.check_graph(found.tally),
        verdicts.check_zero_gradient(found.tally),
        verdicts.check_containment(outcome.adversarial, outcome.perturbation_norms, request.epsilon),
        verdicts.check_sample_size(outcome.broken),
    ]


def _compare_clean(outcome: PerSample, request: Attack, expected: float) -> Check:
    is_right = outcome.clean_predictions == outcome.labels
    accuracy = float(is_right.double().mean())
    return verdicts.check_clean_agreement(accuracy, expected, len(is_right), draws_at_random=request.eot > 1)


@contextmanager
def guarded(model: nn.Module, seed: int = 0) -> Iterator[nn.Module]:
    """Run the block with ``model`` in evaluation mode and frozen, and undo everything after it.

    Restored also after an exception: the mode of every submodule, ``requires_grad`` of every parameter, the
    buffers (a batch normalization held in training mode would count attacked images among its statistics)
    and the global random states of torch, NumPy and Python, which a third-party attack or a stochastic
    network may draw from and which start from ``seed`` inside. Gradients are recorded inside, whatever the
    caller had switched off.

    Raises:
        AttackError: The weights are inference tensors, which no gradient can pass.
    """
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise AttackError("the model was made under torch.inference_mode(); make or load it outside of it")
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(isolated_generators(derive_seed(seed, "attack")))
        stack.enter_context(_kept_buffers(model))
        stack.enter_context(frozen_parameters(model))
        stack.enter_context(evaluation_mode(model))
        yield model


def training_submodules(model: nn.Module) -> list[str]:
    """Return the names of the submodules in training mode; the model itself is called ``(model)``."""
    return [name or "(model)" for name, module in model.named_modules() if getattr(module, "training", False)]


@contextmanager
def _kept_buffers(model: nn.Module) -> Iterator[None]:
    kept: list[tuple[Tensor, Tensor]] = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in kept:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)
