"""Runs the chosen evaluators over networks that are shown the same images, and gathers what they find in records."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from robustprune.data import AnyData, ImageData, Sample, as_data, take_sample
from robustprune.errors import EvaluationError, ModelError
from robustprune.evaluation.attacks import run_attacks, share_attack_options
from robustprune.evaluation.certification import run_certification
from robustprune.evaluation.clean import evaluate_clean, summarize_model
from robustprune.evaluation.corruption_sources import find_corrupted
from robustprune.evaluation.corruptions import add_corruptions, relate_to_dense
from robustprune.evaluation.cost_summary import add_latency
from robustprune.evaluation.requests import Evaluation
from robustprune.evaluation.shift import load_shift, run_shift
from robustprune.models import as_network, placed
from robustprune.ood.detection_sets import DetectionSets, find_sets
from robustprune.ood.protocol import detect
from robustprune.records import Record
from robustprune.runtime.devices import Device
from robustprune.runtime.environment import describe_environment
from robustprune.runtime.files import hash_arrays
from robustprune.runtime.work import Work
from robustprune.tickets.ticket import Ticket


def evaluate(
    model: Ticket | nn.Module,
    data: AnyData,
    request: Evaluation | None = None,
    *,
    ood_images: Mapping[str, AnyData] | None = None,
    device: Device = None,
    work: Work = Work(),
    **parts: Any,
) -> Record:
    """Evaluate a network on a split: accuracy and calibration, and whatever else is asked for.

    ``evaluate(ticket, data, attacks=Attacks(["fgsm", "pgd"], epsilons="2/255,8/255"), corruptions="all", limit=500)``.

    Args:
        model: A ticket, or any module from images (N, C, H, W) in [0, 1] to logits (N, classes).
        data: The image set, or test images as for :func:`robustprune.as_data`.
        request: What is measured, and of which images.
        ood_images: Out-of-distribution sets of your own, in any of those forms, by the names that the request calls
            them: ``ood=OOD("mine"), ood_images={"mine": loader}``.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``, … or ``auto``, the fastest there is; by default where
            the network's weights are. The network itself stays where it is.
        work: Processes share the images, attacks included; detection and latency are the main one's alone. Its folder
            is for attacks and certification, which are picked up there; what they left is to be deleted by whoever
            needs it no more.
        parts: Fields of :class:`robustprune.Evaluation`, in place of those of the request.

    Raises:
        EvaluationError: A request that makes no sense, or labels that the network has no output for.
        TicketError: The ticket's network was built for other images or classes.
        ModelError: It cannot be timed.
        AttackError: Attacks that there are not, or options that none of them takes.
        CorruptionError: Options that no corruption takes.
        DataError: No such split, or an out-of-distribution, corrupted or shifted set is not there.
    """
    how: dict[str, Any] = {"ood_images": ood_images, "device": device, "work": work}
    (record,) = evaluate_models({"": model}, data, request, **how, **parts).values()
    return record


def evaluate_models(
    models: Mapping[str, Ticket | nn.Module],
    data: AnyData,
    request: Evaluation | None = None,
    *,
    dense: str | None = None,
    ood_images: Mapping[str, AnyData] | None = None,
    device: Device = None,
    work: Work = Work(),
    **parts: Any,
) -> dict[str, Record]:
    """Evaluate networks one after the other, and side by side what is made, or timed, once for all of them.

    That are corrupted images and latency; they count in the seconds of each network, as they took for all.

    Args:
        models: Name → network. All are shown the same images.
        data: The image set, or test images as for :func:`robustprune.as_data`.
        request: What is measured, and of which images.
        dense: Which of the networks the others' errors under corruptions are related to.
        ood_images: As for :func:`evaluate`.
        device: Likewise.
        work: Likewise.
        parts: Fields of :class:`robustprune.Evaluation`, in place of those of the request.

    Raises:
        EvaluationError: ``dense`` is none of the networks, or there are no corruptions to relate.
        RobustPruneError: As for :func:`evaluate`.
    """
    start = time.perf_counter()
    asked = Evaluation(**{**dict(request or {}), **parts})
    if dense is not None and dense not in models:
        raise EvaluationError(f"the dense network {dense!r} is none of {', '.join(models)}")
    data = as_data(data, "test")
    for model in models.values():
        _check(model, data, asked)
    # Before anything is computed: what is misspelt, or not there, should not be found out after an hour.
    share_attack_options(asked.attacks)
    sample = take_sample(data, asked.split, asked.limit, asked.seed)
    corrupted = find_corrupted(asked.corruptions, data, sample, asked.seed, asked.limit)
    shifted = {name: load_shift(where, data) for name, where in asked.shift.sets.items()}
    with work.processes.raising_everywhere():
        # Detectors are fitted to all features together, which one process has to hold.
        others = _find_others(data, asked, ood_images or {}) if work.processes.is_main else None
    if dense is not None and corrupted is None:
        raise EvaluationError("errors are related to a dense network's under corruptions only; name some")
    shared = time.perf_counter() - start
    how = asked, shifted, others, device, work
    evaluated = [_evaluate_alone(model, data, sample, *how) for model in models.values()]
    start = time.perf_counter()
    if corrupted is not None:
        add_corruptions(evaluated, corrupted, batch_size=asked.batch_size, work=work)
    if asked.latency:
        work.processes.from_main(lambda: add_latency(evaluated, sample.images[0].shape, work))
    shared += time.perf_counter() - start
    records = {name: record for name, (_, record) in zip(models, evaluated, strict=True)}
    for name, record in records.items():
        record.seconds += shared
        if dense is not None and name != dense:
            relate_to_dense(record, records[dense])
    return records


def _check(model: Any, data: ImageData, asked: Evaluation) -> None:
    if isinstance(model, Ticket):
        model.check_fits(data)
    elif asked.latency and callable(model) and not isinstance(model, nn.Module):
        raise ModelError("a plain function cannot be timed, as what is timed is a frozen copy; hand over an nn.Module")


def _find_others(data: ImageData, asked: Evaluation, images: Mapping[str, AnyData]) -> DetectionSets | None:
    if asked.ood.sets:
        return find_sets(asked.ood, data, images, split=asked.split, limit=asked.limit, seed=asked.seed)
    if images:
        raise EvaluationError(
            f"ood_images={{{min(images)!r}: …}} go by the names that ood= gives them; name them there"
        )
    return None


def _evaluate_alone(
    model: Ticket | nn.Module,
    data: ImageData,
    sample: Sample,
    asked: Evaluation,
    shifted: Mapping[str, tuple[Tensor, Tensor]],
    others: DetectionSets | None,
    device: Device,
    work: Work,
) -> tuple[nn.Module, Record]:
    """Return a network, and the record of what is measured of it alone."""
    start = time.perf_counter()
    network = placed(as_network(model.model() if isinstance(model, Ticket) else model), device)
    clean, samples = evaluate_clean(network, sample, data.name, asked.batch_size, work)
    entries, predictions = run_shift(network, shifted, clean.accuracy, asked.batch_size, work)
    how: dict[str, Any] = {"seed": asked.seed, "batch_size": asked.batch_size, "progress": work.progress}
    found = work.processes.from_main(lambda: others and detect(network, data, asked.ood, others, **how))
    attacked = run_attacks(network, sample, asked, clean.accuracy, work)
    certified, proven = run_certification(network, sample, asked, work)
    content = {"images": sample.images.cpu().numpy(), "labels": sample.labels.numpy()}
    alone = work.processes.is_single
    record = Record(
        model=summarize_model(model, network, sample.images[:1]),
        dataset=data.name,
        split=asked.split,
        n=len(sample.labels),
        data=dict(data.spec),
        classes=list(data.classes),
        samples_sha256=hash_arrays(content),
        asked=asked.to_plain(),
        clean=clean,
        attacks=attacked.entries,
        curves=attacked.curves,
        optimality=attacked.optimality,
        certified=certified,
        ood=found.entries if found else [],
        ood_summary=found.summary if found else None,
        shift=entries,
        seed=asked.seed,
        environment=describe_environment() | ({} if alone else {"processes": work.processes.count}),
        seconds=time.perf_counter() - start,
        samples=samples | attacked.samples | proven | (found.samples if found else {}) | predictions,
    )
    return network, record
