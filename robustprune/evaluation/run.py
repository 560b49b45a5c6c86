"""Runs the chosen evaluators over one network and gathers what they find in a record."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from torch import nn

from robustprune.attacks import parse_epsilon
from robustprune.data import ImageData, Sample, take_sample
from robustprune.evaluation.attacks import make_settings, run_attacks, share_attack_options
from robustprune.evaluation.clean import evaluate_clean
from robustprune.evaluation.corruption_sources import find_corrupted
from robustprune.evaluation.latency import check_timing
from robustprune.evaluation.ood import OodRequest, run_ood
from robustprune.evaluation.shift import run_shift
from robustprune.evaluation.summary import summarize_model
from robustprune.evaluation.together import evaluate_together
from robustprune.models import as_network
from robustprune.records import Record
from robustprune.runtime.environment import describe_environment
from robustprune.runtime.files import hash_arrays
from robustprune.runtime.processes import ALONE, Processes
from robustprune.runtime.work import Progress
from robustprune.tickets.ticket import Ticket


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
    attack_settings: Mapping[str, Any] | None = None,
    ood: OodRequest = (),
    detectors: str | Sequence[str] | None = None,
    ood_options: Mapping[str, Any] | None = None,
    corruptions: str | Sequence[str] = (),
    corruption_dir: str | Path | None = None,
    corruption_options: Mapping[str, Any] | None = None,
    shift: Mapping[str, str | Path] | None = None,
    latency: bool = False,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 256,
    path: str | None = None,
    processes: Processes = ALONE,
    progress: Progress | None = None,
) -> Record:
    """Evaluate a network on a split: accuracy and calibration, detection of foreign images, each attack at each ε.

    Args:
        model: A ticket, or any module from images (N, C, H, W) in [0, 1] to logits (N, classes).
        data: The image set.
        split: ``test``, ``val`` or ``train``.
        attacks: One or more names of attacks, see ``robustprune list attacks``.
        epsilons: One or more budgets, as numbers on the [0, 1] scale or fractions such as ``"8/255"``.
        norm: ``linf``, ``l2`` or ``l1``.
        options: Options of the attacks, such as ``steps``; each attack is given those that it takes.
        restarts: Of attacks with a random start.
        attack_settings: Further settings of all attacks, the fields of
            :class:`robustprune.evaluation.attacks.AttackSettings`: ``checks``, ``eot``, ``union``, ``transfer_from``,
            ``save_adversarial``, ``state``.
        ood: Foreign image sets that detectors are to tell from these images: names, ``near``, ``far`` and ``sanity``
            for groups of them, or a mapping that gives each its own detectors.
        detectors: Of those sets that have none of their own; all by default, see ``robustprune list detectors``.
        ood_options: Options of :func:`robustprune.ood.evaluate_ood`, such as ``attack_epsilons``.
        corruptions: ``all`` (the fifteen), ``extras``, or names, see ``robustprune list corruptions``.
        corruption_dir: A published corrupted set to read instead of making the images: arrays as in CIFAR-10-C, or
            folders as in ImageNet-C.
        corruption_options: Options of the corruptions, such as ``folder`` of frost.
        shift: Name → place of sets of the same classes from elsewhere: ``npz:FILE`` or ``imagefolder:DIR``.
        latency: Whether to time it, for five seconds, on images of noise.
        limit: Evaluate a stratified sample of so many images.
        seed: Of the sample, the attacks and the corruptions.
        batch_size: Images per forward pass; changes no result.
        path: Where the network came from, for the record.
        processes: Those that evaluate it together, each calling this alike; all are returned the record of all. They
            share the images, attacks included; detection and latency are the main one's alone.
        progress: Called as work proceeds.

    Raises:
        EvaluationError: The data set has labels that the network has no output for.
        TicketError: The ticket's network was built for other images or classes.
        ModelError: It cannot be timed.
        AttackError: Attack settings that make no sense.
        CorruptionError: Options that no corruption takes.
        DataError: No such split, or a foreign, corrupted or shifted set is not there.
    """
    start = time.perf_counter()
    if latency:
        check_timing(model)
    attacks = [attacks] if isinstance(attacks, str) else attacks
    epsilons = [epsilons] if isinstance(epsilons, str | float | Real) else epsilons
    budgets = [parse_epsilon(epsilon, norm) for epsilon in epsilons]
    further = make_settings(attack_settings or {})
    own_options = share_attack_options(attacks, dict(options or {}), norm)
    sample = take_sample(data, split, limit, seed)
    images, labels, indices = sample
    corrupted = find_corrupted(corruptions, corruption_dir, data, sample, seed, limit, corruption_options or {})
    if isinstance(model, Ticket):
        model.check_fits(data)
    network = as_network(model.model() if isinstance(model, Ticket) else model)
    shared: dict[str, Any] = {"batch_size": batch_size, "processes": processes, "progress": progress}
    clean, samples = evaluate_clean(network, sample, data.name, batch_size=batch_size, processes=processes)
    # Before the attacks, which take longer: a foreign set that is not there is found out early.
    shifted, predictions = run_shift(network, data, shift or {}, clean.accuracy, **shared)
    chosen: dict[str, Any] = {"split": split, "limit": limit, "seed": seed}
    chosen |= {"batch_size": batch_size, "progress": progress}
    # Detectors are fitted to all features together, which one process has to hold.
    found_ood, ood_summary, scores = processes.from_main(
        lambda: run_ood(network, data, ood, detectors, ood_options or {}, **chosen)
    )
    attacked = run_attacks(
        network,
        images,
        labels,
        own_options,
        epsilons=budgets,
        further=further,
        norm=norm,
        seed=seed,
        restarts=restarts,
        sample_ids=indices,
        expected_clean_accuracy=clean.accuracy,
        **shared,
    )
    record = Record(
        model=summarize_model(model, network, images[:1], path),
        **_describe_sample(data, split, sample),
        clean=clean,
        attacks=attacked.entries,
        curves=attacked.curves,
        ood=found_ood,
        ood_summary=ood_summary,
        shift=shifted,
        seed=seed,
        environment=describe_environment() | ({} if processes.is_alone else {"processes": processes.count}),
        seconds=time.perf_counter() - start,
        samples=samples | attacked.samples | scores | predictions,
    )
    evaluate_together([(network, record)], corrupted, images[0].shape, latency=latency, **shared)
    return record


def _describe_sample(data: ImageData, split: str, sample: Sample) -> dict[str, Any]:
    """Return what a record says of the images."""
    content = {"images": sample.images.cpu().numpy(), "labels": sample.labels.numpy()}
    return {
        "dataset": data.name,
        "split": split,
        "n": len(sample.labels),
        "data": dict(data.spec),
        "classes": list(data.classes),
        "samples_sha256": hash_arrays(content),
    }
