"""The whole protocol: fit detectors on a network's own images, score foreign sets, say how well they are told apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from torch import nn

from robustprune.attacks import parse_epsilon
from robustprune.corruptions import HEADLINE, SEVERITIES
from robustprune.data import ImageData, canonical_name, take_sample
from robustprune.errors import EvaluationError
from robustprune.metrics.detection import AUPR_ESTIMATOR, TRUE_POSITIVE_RATE, check_resampling
from robustprune.ood.attack import ScoreAttackSettings
from robustprune.ood.comparison import Comparison
from robustprune.ood.detector import DETECTORS, make_detector
from robustprune.ood.extraction import Extractor
from robustprune.ood.figures import group_means
from robustprune.ood.fitting import prepare_detectors
from robustprune.ood.foreign import ForeignSet, load_foreign, load_requests
from robustprune.ood.groups import FAR, NEAR, expand
from robustprune.ood.result import OodResult, OodSummary
from robustprune.ood.shifted import is_corrupted
from robustprune.ood.tuning import IMAGES
from robustprune.runtime.work import Progress


def evaluate_ood(
    model: nn.Module,
    data: ImageData,
    ood: str | Iterable[str] | Mapping[str, Sequence[str]] = (NEAR, FAR),
    detectors: str | Sequence[str] | None = None,
    *,
    split: str = "test",
    limit: int | None = None,
    fit_limit: int | None = 50_000,
    tune_on: str | None = None,
    full_spectrum: bool = False,
    resamples: int = 200,
    attack_epsilons: float | str | Sequence[float | str] = (),
    attack_steps: int = 10,
    attack_limit: int = 100,
    seed: int = 0,
    batch_size: int = 256,
    cache: str | Path | None = None,
    root: str | Path | None = None,
    download: bool = False,
    progress: Progress | None = None,
) -> OodResult:
    """Measure how well detectors tell a network's own kind of images from foreign ones.

    The network runs once over each set, as a frozen copy, and is left as it was. Detectors are fitted on the
    training images as they are, temperatures on the validation images.

    Args:
        model: Maps float images in [0, 1] to logits (N, K); normalization is inside it.
        data: The image set it was trained on.
        ood: Foreign sets by name, as for `load_data`, or ``near``, ``far`` and ``sanity`` for groups of them; a
            mapping gives each its own detectors.
        detectors: Names of ``robustprune list detectors``, options after a colon; all by default.
        split: Which images of ``data`` are the in-distribution ones.
        limit: Take so many of them, stratified, and at most so many of each foreign set.
        fit_limit: Fit on so many training images, stratified; by default as many as CIFAR has. None for all.
        tune_on: A foreign set to choose the options of detectors on, against validation images; it cannot be among
            ``ood``. By default options are those of the papers.
        full_spectrum: Give every figure a second time with corrupted images of ``data``, as many as there are others,
            counted as in-distribution too.
        resamples: Of the bootstrap behind the intervals; 0 for none.
        attack_epsilons: Budgets (L∞) at which detectors are attacked; none by default.
        attack_steps: Steps of PGD.
        attack_limit: Attack so many images of each set.
        seed: Of every choice and draw.
        batch_size: Images per forward pass; changes no result.
        cache: Folder to keep logits and features in, for the next time.
        root: Folder to look for image sets in before the usual ones.
        download: Whether a missing set may be downloaded.
        progress: Called with what is being done, how much is done, and how much there is.

    Raises:
        EvaluationError: Nothing to compare with, or settings that make no sense.
        DataError: A set that was named is missing or damaged; one of a group is left out and listed.
        UnknownNameError: There is no detector or set of a name.
        ModelError: The model does not run on such images.
    """
    requests, named_sets = expand(
        data.name, ood, [detectors] if isinstance(detectors, str) else detectors or DETECTORS.names()
    )
    attack = attack_settings(attack_epsilons, attack_steps, attack_limit, seed, batch_size)
    names = list(dict.fromkeys(name for own in requests.values() for name in own))
    for name in names:
        make_detector(name)  # what is misspelt is found before anything is computed
    load: dict[str, Any] = {"data": data, "split": split, "seed": seed, "root": root, "download": download}
    if resamples:
        check_resampling(resamples)
    foreign, missing = load_requests(requests, named_sets, limit=limit, **load)
    tuning_set = _load_tuning_set(tune_on, requests, **load)

    own = take_sample(data, split, limit, seed)
    extractor = Extractor(model, own.images[:8], batch_size=batch_size, cache=cache)
    fitted, account = prepare_detectors(
        names, extractor, data, fit_limit=fit_limit, tune_on=tuning_set, seed=seed, progress=progress
    )
    comparison = Comparison(data.name, extractor, fitted, resamples, seed, attack, progress)
    comparison.look_at_own(own.images.cpu(), own.labels, own.indices, full_spectrum)
    for each in foreign:
        comparison.look_at_foreign(each, requests[each.name])
    protocol = {
        "in_distribution": {"dataset": data.name, "split": split, "n": len(own.labels)},
        **account,
        "augmented": False,
        "full_spectrum": {"corruptions": list(HEADLINE), "severities": list(SEVERITIES)} if full_spectrum else None,
        "feature_layer": extractor.describe_head(),
        "aupr": AUPR_ESTIMATOR,
        "fpr95": f"at the first threshold with a true positive rate of at least {TRUE_POSITIVE_RATE}",
        "resamples": resamples,
        "seed": seed,
    }
    summary = OodSummary(
        groups=group_means(comparison.entries),
        missing=missing,
        selective=comparison.selective(),
        shifted=comparison.shifted,
        protocol=protocol,
    )
    return OodResult(comparison.entries, summary, comparison.samples)


def _load_tuning_set(tune_on: str | None, requests: Iterable[str], **load: Any) -> ForeignSet | None:
    if tune_on is None:
        return None
    check_tuning_set(tune_on, requests)
    # Corrupted images to tune on are of validation images: those of `split` judge.
    return load_foreign(tune_on, limit=IMAGES, **{**load, "split": "val"})


def check_tuning_set(tune_on: str, requests: Iterable[str]) -> None:
    """Refuse a set to tune on that is among those that judge.

    Raises:
        EvaluationError: It is.
    """
    if any(_is_same_kind(tune_on, name) for name in requests):
        raise EvaluationError(f"{tune_on} cannot both choose options and judge them; tune on another set")


def _is_same_kind(one: str, other: str) -> bool:
    return (is_corrupted(one) and is_corrupted(other)) or canonical_name(one) == canonical_name(other)


def attack_settings(
    epsilons: float | str | Sequence[float | str], steps: int, limit: int, seed: int, batch_size: int
) -> ScoreAttackSettings:
    """Return how detectors are attacked.

    Raises:
        EvaluationError: Settings that make no sense.
    """
    if steps < 1 or limit < 1:
        raise EvaluationError(f"attack_steps and attack_limit must be at least 1, got {steps} and {limit}")
    budgets = [epsilons] if isinstance(epsilons, str | float | Real) else epsilons
    return ScoreAttackSettings(tuple(parse_epsilon(epsilon) for epsilon in budgets), steps, limit, seed, batch_size)
