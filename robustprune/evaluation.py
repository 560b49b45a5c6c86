"""Runs the chosen evaluators over one network and gathers what they find in a record."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustprune.attacks import AttackResult, attack_options, parse_epsilon, run_attack
from robustprune.cost import measure_cost
from robustprune.data import ImageData, stratified_indices
from robustprune.errors import AttackError, EvaluationError
from robustprune.files import hash_arrays
from robustprune.inference import predict_logits
from robustprune.metrics import (
    accuracy,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    wilson_interval,
)
from robustprune.provenance import describe_environment, hash_weights
from robustprune.records import AttackEntry, CheckResult, CleanResult, ModelSummary, Record, Samples
from robustprune.registry import suggest
from robustprune.ticket import Ticket
from robustprune.ticket_header import Plan

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def evaluate(
    model: Ticket | nn.Module,
    data: ImageData,
    *,
    split: str = "test",
    attacks: str | Sequence[str] = (),
    epsilons: float | str | Sequence[float | str] = ("8/255",),
    norm: str = "linf",
    options: Mapping[str, Any] | None = None,
    restarts: int = 1,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 256,
    path: str | None = None,
    progress: Progress | None = None,
) -> Record:
    """Evaluate a network on a split: clean accuracy and calibration, then each attack at each ε.

    Args:
        model: A ticket, or any module from images (N, C, H, W) in [0, 1] to logits (N, classes).
        data: The image set.
        split: ``test``, ``val`` or ``train``.
        attacks: One or more names of attacks, see ``robustprune list attacks``.
        epsilons: One or more budgets, as numbers on the [0, 1] scale or fractions such as ``"8/255"``.
        norm: ``linf`` or ``l2``.
        options: Options of the attacks, such as ``steps``; each attack is given those that it takes.
        restarts: Of attacks with a random start.
        limit: Evaluate a stratified sample of so many images.
        seed: Of the sample and of the attacks.
        batch_size: Images per forward pass; changes no result.
        path: Where the network came from, for the record.
        progress: Called as work proceeds.

    Raises:
        EvaluationError: The data set has labels that the network has no output for.
        TicketError: The ticket's network was built for other images or classes.
        AttackError: Attack settings that make no sense.
        DataError: No such split.
    """
    start = time.perf_counter()
    attacks = [attacks] if isinstance(attacks, str) else attacks
    epsilons = [epsilons] if isinstance(epsilons, str | float | int) else epsilons
    budgets = [parse_epsilon(epsilon, norm) for epsilon in epsilons]
    own_options = _share_options(attacks, dict(options or {}))
    part = data.require(split)
    indices = torch.arange(len(part)) if limit is None else stratified_indices(part.labels, limit, seed)
    images, labels = part.take(indices), part.labels[indices].cpu()
    if isinstance(model, Ticket):
        model.check_fits(data)
    network = model.model() if isinstance(model, Ticket) else model
    logits = predict_logits(network, images, batch_size=batch_size)
    _check_labels(logits, labels, data.name)
    samples: Samples = {
        "index": indices.numpy(),
        "label": labels.numpy(),
        "clean_prediction": logits.argmax(dim=1).numpy(),
    }
    entries: list[AttackEntry] = []
    for name in attacks:
        for epsilon in budgets:
            result = run_attack(
                network,
                images,
                labels,
                name,
                epsilon=epsilon,
                norm=norm,
                seed=seed,
                restarts=restarts,
                batch_size=batch_size,
                sample_ids=indices,
                expected_clean_accuracy=accuracy(logits, labels),
                progress=_named(progress, f"{name} ε={epsilon:.4g}"),
                **own_options[name],
            )
            samples |= _outcomes(result, len(entries))
            entries.append(_entry(result))
    return Record(
        model=_summary(model, network, images[:1], path),
        dataset=data.name,
        split=split,
        n=len(labels),
        data=dict(data.spec),
        samples_sha256=hash_arrays({"images": images.cpu().numpy(), "labels": labels.numpy()}),
        clean=_clean(logits, labels),
        attacks=entries,
        seed=seed,
        environment=describe_environment(),
        seconds=time.perf_counter() - start,
        samples=samples,
    )


def _share_options(attacks: Sequence[str], options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the options each attack takes.

    Raises:
        AttackError: An option that none of them takes.
    """
    known = {name: attack_options(name) for name in attacks}
    if options and not attacks:
        raise AttackError(f"no attack is named that could take {', '.join(map(repr, options))}; name one, such as pgd")
    for option in options:
        if not any(option in takes for takes in known.values()):
            every = sorted({name for takes in known.values() for name in takes})
            raise AttackError(
                f"{option!r} is no option of {' or '.join(attacks)}.{suggest(option, every)} "
                f"What they take: {', '.join(every) or 'nothing'}."
            )
    return {
        name: {option: value for option, value in options.items() if option in takes} for name, takes in known.items()
    }


def _check_labels(logits: Tensor, labels: Tensor, name: str) -> None:
    if int(labels.max()) >= logits.shape[1]:
        raise EvaluationError(
            f"{name} has labels up to {int(labels.max())}, the network only {logits.shape[1]} outputs; "
            "evaluate it on the data set it was trained for"
        )


def _clean(logits: Tensor, labels: Tensor) -> CleanResult:
    correct = int((logits.argmax(dim=1) == labels).sum())
    return CleanResult(
        accuracy=accuracy(logits, labels),
        interval=wilson_interval(correct, len(labels)),
        nll=negative_log_likelihood(logits, labels),
        ece=expected_calibration_error(logits, labels),
        brier=brier_score(logits, labels),
    )


def _entry(result: AttackResult) -> AttackEntry:
    return AttackEntry(
        name=result.attack,
        norm=result.norm,
        epsilon=result.epsilon,
        steps=result.options.get("steps"),
        restarts=result.options["restarts"],
        options=result.options,
        robust_accuracy=result.robust_accuracy,
        interval=wilson_interval(result.n - int(result.broken.sum()), result.n),
        valid=result.valid,
        checks=[CheckResult(name=check.name, verdict=check.verdict, detail=check.detail) for check in result.checks],
        gradient_evaluations=result.gradient_evaluations,
        forward_evaluations=result.forward_evaluations,
        seconds=result.seconds,
    )


def _outcomes(result: AttackResult, entry: int) -> Samples:
    return {
        f"attack{entry}_prediction": result.adversarial_predictions.numpy(),
        f"attack{entry}_broken": result.broken.numpy(),
        f"attack{entry}_norm": result.perturbation_norms.numpy().astype(np.float32),
    }


def _summary(model: Ticket | nn.Module, network: nn.Module, images: Tensor, path: str | None) -> ModelSummary:
    ticket = model if isinstance(model, Ticket) else None
    example = images.cpu().float() / 255
    return ModelSummary(
        path=path,
        architecture=ticket.architecture.name if ticket else type(network).__name__,
        sha256=hash_weights(network),
        **measure_cost(network, example).to_dict(),
        removed=list(ticket.plan.removed) if ticket else [],
        plan=(ticket.plan if ticket else Plan()).model_dump(mode="json"),
        initial_seed=ticket.seed if ticket else None,
        training=dict(ticket.training) if ticket else {},
        earlier_training=list(ticket.earlier_training) if ticket else [],
    )


def _named(progress: Progress | None, label: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(label, done, total)
