"""Runs any attack: guards the model, hands the attack its samples, and judges what comes back."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.attacks.engine import checks as verdicts
from robustprune.attacks.engine.attack_result import AttackResult, Check
from robustprune.attacks.engine.chunk_runner import FOR_CHECKS, ChunkRunner, Found, WorkDone, merge, neighbours
from robustprune.attacks.engine.full_checks import CheckRunner, run_further_checks
from robustprune.attacks.engine.indicators import check_convergence, check_copy, check_silent_success
from robustprune.attacks.engine.mitigation import mitigate
from robustprune.attacks.engine.samples import Samples, check_samples, merge_previous, with_previous
from robustprune.attacks.engine.two_phases import attack_in_two_phases, sample_size
from robustprune.attacks.engine.within_budget import within_budget
from robustprune.attacks.norms import get_norm
from robustprune.attacks.registry import ATTACKS, check_norm, expand_options, get_attack, is_minimum_norm
from robustprune.attacks.requests import Attack
from robustprune.errors import AttackError
from robustprune.inference import shared_copies
from robustprune.models import as_network, evaluation_mode, frozen_parameters, model_device, placed
from robustprune.runtime.arrays import Array
from robustprune.runtime.devices import Device
from robustprune.runtime.randomness import derive_seed, isolated_generators
from robustprune.runtime.work import Work, labelled

NO_WORK = Work()


def run_attack(
    model: nn.Module,
    images: Array,
    labels: Array,
    attack: str | Attack = "pgd",
    *,
    targets: Array | None = None,
    sample_ids: Sequence[int] | Tensor | None = None,
    previous: AttackResult | None = None,
    device: Device = None,
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
        previous: Result of an earlier attack on the same samples with no larger budget: what it broke is not
            attacked again.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``, … or ``auto``, the fastest there is; by default where
            the network's weights are. The network itself stays where it is.
        work: Processes that share the samples, each calling this alike; whom to tell of progress; a folder that keeps
            finished parts of the attack, from which an interrupted one is picked up, and one that was finished is only
            judged anew.
        **settings: Fields of `Attack`, such as ``epsilon="8/255"``, and options of the attack (`attack_options`). And
            ``expected_clean_accuracy``, what the caller measured on the same samples, which a check compares.

    Raises:
        AttackError: Values that make no sense, unknown options, a norm that the attack does not know, images outside
            [0, 1], a model whose clean logits are not finite, a state file that is damaged.
        UnknownNameError: There is no attack of that name.
        ModelError: The model cannot run on these images.
    """
    expected_clean_accuracy: float | None = settings.pop("expected_clean_accuracy", None)
    request = Attack.of(attack, **settings)
    check_norm(get_attack(request.name), request.name, request.norm)
    options = expand_options(request.name, request.options)
    model, samples = placed(as_network(model), device), check_samples(images, labels, sample_ids, targets)
    size = sample_size(request, options, len(samples))
    expected = {"expected_clean_accuracy": expected_clean_accuracy}

    def attack_part(own: Samples, asked: Attack, before: AttackResult | None) -> AttackResult:
        return attack_and_check(model, own, asked, previous=before, work=work, **(expected if own is samples else {}))

    if size is None:
        result = attack_part(samples, request, previous)
    else:
        result = attack_in_two_phases(attack_part, samples, request, size, previous)
    if not request.mitigate:
        return result
    return mitigate(CheckRunner(attack_once, model, samples, result, request, work, **expected), previous)


def mitigate_result(
    result: AttackResult,
    model: nn.Module,
    images: Array,
    labels: Array,
    attack: str | Attack,
    *,
    previous: AttackResult | None = None,
    **settings: Any,
) -> AttackResult:
    """Return the joint result of several attacks with what its doubtful checks suggest, see `Attack.mitigate`.

    All arguments are those of `run_attack`; ``attack`` is the one that remedies are made of.
    """
    expected, work = settings.pop("expected_clean_accuracy", None), settings.pop("work", NO_WORK)
    given = {name: settings.pop(name, None) for name in ("sample_ids", "targets", "device")}
    samples = check_samples(images, labels, given["sample_ids"], given["targets"])
    network, request = placed(as_network(model), given["device"]), Attack.of(attack, **settings)
    return mitigate(CheckRunner(attack_once, network, samples, result, request, work, expected), previous)


@shared_copies()
def attack_and_check(
    model: nn.Module,
    samples: Samples,
    request: Attack,
    *,
    previous: AttackResult | None,
    work: Work,
    expected_clean_accuracy: float | None = None,
) -> AttackResult:
    """Return the result of `attack_once` with the checks that take attacks of their own."""
    result = attack_once(
        model, samples, request, previous=previous, work=work, expected_clean_accuracy=expected_clean_accuracy
    )
    started = time.perf_counter()
    # A minimum-norm attack without a budget has that of the whole box.
    checked = request.model_copy(update={"epsilon": result.epsilon})
    result = run_further_checks(CheckRunner(attack_once, model, samples, result, checked, work))
    return replace(result, seconds=result.seconds + time.perf_counter() - started)


def attack_once(
    model: nn.Module,
    samples: Samples,
    asked: Attack,
    *,
    previous: AttackResult | None,
    work: Work,
    expected_clean_accuracy: float | None = None,
    is_probed: bool = True,
) -> AttackResult:
    """Return the result of an attack with the checks that take none of their own; those of the model where wanted."""
    started, request = time.perf_counter(), asked
    options = expand_options(request.name, request.options)
    if is_minimum_norm(get_attack(request.name)):
        asked, request = _without_ball(request, samples)
    attacked = with_previous(samples, previous, asked)
    training_before = training_submodules(model)
    with guarded(model, request.seed):
        training_during = training_submodules(model)
        found = _attack(model, attacked, request, options, work, started)
        outcome = found.samples
        probed = (model, attacked, outcome["clean_logits"], request.eot, found.counts)
        checks_of_model = verdicts.probe_model(*probed) if is_probed else []
        training_during = training_during or training_submodules(model)
    if expected_clean_accuracy is not None:
        is_right, is_random = outcome["clean_predictions"] == outcome["labels"], request.eot > 1
        checks_of_model.append(
            verdicts.check_clean_agreement(is_right, expected_clean_accuracy, draws_at_random=is_random)
        )
    checks = (
        verdicts.check_mode(training_before, training_during),
        verdicts.check_range(),
        verdicts.check_graph(found.counts),
        verdicts.check_zero_gradient(found.counts),
        verdicts.check_containment(outcome["adversarial"], outcome["perturbation_norms"], request.epsilon),
        verdicts.check_sample_size(outcome["broken"]),
        *checks_of_model,
        *_indicators(found, request),
    )
    result = merge_previous(_result(found, attacked, request, options, checks), previous)
    if asked is not request:
        result = within_budget(result, samples.images, asked.epsilon)
    return replace(result, seconds=found.counts.earlier_seconds + time.perf_counter() - started)


def _indicators(found: Found, request: Attack) -> list[Check]:
    outcome, is_foreign = found.samples, ":" in request.name
    is_judged_by_draw = request.eot > 1  # what the means of several passes say is no stand-in
    copied = outcome["not_transferred"] if found.is_frozen and not is_judged_by_draw else None
    # One that looks for the nearest points does not go uphill to its end.
    is_uphill = request.selection != "nearest" and request.name != "fab-t"
    rise = outcome["rise"] if is_uphill else torch.full_like(outcome["rise"], torch.nan)
    return [
        check_silent_success(None if is_foreign else outcome["was_silent"]),
        check_convergence(rise, outcome["late_rise"], ~outcome["broken"]),
        check_copy(copied),
    ]


def _result(
    found: Found, samples: Samples, request: Attack, options: dict[str, Any], checks: tuple[Check, ...]
) -> AttackResult:
    of_samples: dict[str, Any] = {name: values for name, values in found.samples.items() if name not in FOR_CHECKS}
    return AttackResult(
        attack=request.label,
        norm=request.norm,
        epsilon=request.epsilon,
        options={
            **options,
            **found.details,
            **request.account,
            "frozen": found.is_frozen,
            # Without a random draw there was one run, whatever was asked for.
            "restarts": request.restarts if found.is_random else 1,
        },
        **of_samples,
        broken_by=_names(found, request.label),
        targets=samples.targets,
        checks=checks,
        gradient_evaluations=found.counts.gradients,
        forward_evaluations=found.counts.forwards,
        seconds=0.0,  # known once all is done
        distances=_distances(found.samples) if request.selection == "nearest" else None,
    )


def image_attack(name: str) -> Callable[..., Tensor]:
    """Return the attack called ``name`` as a function of (model, images, labels, …) that returns the images only.

    Any name that `run_attack` knows will do: ``"torchattacks:CW"``, or one of `register_attack`.
    """

    def attack(model: nn.Module, images: Array, labels: Array, **settings: Any) -> Tensor:
        found = run_attack(model, images, labels, name, **settings).adversarial
        return found.to(images.device) if isinstance(images, Tensor) else found

    attack.__name__ = attack.__qualname__ = re.sub(r"\W", "_", name)
    attack.__doc__ = f"""Return images (N, …) that the attack ``{name}`` made, on the device of ``images``.

    Samples that are misclassified to begin with come back as they are; `run_attack` says which, and whether the model
    could be attacked at all. All further arguments are those of `run_attack` and the options of ``{name}``. For the
    textbook version, which returns the last point of all samples: ``early_stop=False, selection="last"``. The default
    of ``epsilon`` is that of L∞; in L2 it is 0.5, in L1 12. A minimum-norm attack has none: it returns the nearest
    misclassified images, however far they are.
    """
    attack.__signature__ = _signature_of(attack, name)  # type: ignore[attr-defined]
    return attack


def _signature_of(attack: Callable[..., Tensor], name: str) -> inspect.Signature:
    """Return the signature for help and completion: what attacks have in common, and the options of this one."""
    entry = ATTACKS.builtin.get(name)
    common = {key: value for key, value in Attack() if key not in ("name", "label", "options")}
    defaults = {**common, **({} if entry is None else entry.options)}
    named = [inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=value) for key, value in defaults.items()]
    own = inspect.signature(attack)
    *given, settings = own.parameters.values()
    return own.replace(parameters=[*given, *named, settings])


def _attack(
    model: nn.Module, samples: Samples, request: Attack, options: dict[str, Any], work: Work, started: float
) -> Found:
    """Attack this process's share of the samples, and return what all processes found."""
    processes, block = work.processes, neighbours(request)
    own = samples if processes.is_single else samples.part(processes.share(len(samples), block))
    report = labelled(work.progress, f"{request.label} ε={request.epsilon:.4g}")
    runner = ChunkRunner(model, options, request, WorkDone(report, len(own), request, options))
    with processes.raising_everywhere():
        share = runner.run(own, model_device(model), work, started) if len(own) else None
    return merge(processes.gather(share), processes, block)


def _without_ball(request: Attack, samples: Samples) -> tuple[Attack, Attack]:
    """Return what is asked of a minimum-norm attack, and how it is run whatever is asked: to its end, in the box alone.

    Without a budget, it is asked for all that it finds.
    """
    widest = get_norm(request.norm).widest(samples.images[0].numel())
    is_limited = "epsilon" in request.model_fields_set
    run = Attack.of(request, epsilon=widest, early_stop=False, selection="nearest")
    return Attack.of(request, epsilon=request.epsilon if is_limited else widest), run


def _distances(outcome: dict[str, Tensor]) -> Tensor:
    return outcome["perturbation_norms"].masked_fill(~outcome["broken"], torch.inf)


def _names(found: Found, attack: str) -> list[str]:
    names = [stage or attack for stage in found.stages]
    rows = zip(*(found.samples[name].tolist() for name in ("broken", "broken_at_step", "stage")), strict=True)
    return ["" if not broken else "clean" if step == 0 else names[stage] for broken, step, stage in rows]


@contextmanager
def guarded(model: nn.Module, seed: int) -> Iterator[None]:
    """Run the block with ``model`` in evaluation mode and frozen, and undo everything after it.

    So are the buffers, as a batch normalization held in training mode counts attacked images, and the random states of
    torch, NumPy and Python, which start from ``seed`` inside. Gradients are recorded, whatever the caller switched off.
    """
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise AttackError("the model was made under torch.inference_mode(); make or load it outside of it")
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        isolated_generators(derive_seed(seed, "attack"), model_device(model)),
        _kept_buffers(model),
        frozen_parameters(model),
        evaluation_mode(model),
    ):
        yield


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
