"""The images that detectors are fitted for and tried on, found before a network computes anything."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from robustprune.data import AnyData, ImageData, Sample, canonical_name, read_images, take_sample
from robustprune.errors import EvaluationError
from robustprune.ood.detector import DETECTORS, make_detector
from robustprune.ood.detector_scores import TUNING_IMAGES
from robustprune.ood.image_sets import OODSet, expand_sets, is_corrupted, load_sets
from robustprune.ood.requests import OOD


@dataclass(frozen=True, eq=False)
class DetectionSets:
    """Which detectors are tried, and on which images.

    Attributes:
        detectors: Their names.
        split: Of the in-distribution set, which images are judged.
        own: These.
        others: Out-of-distribution sets.
        missing: Members of groups that are not on this machine → why.
        tune_on: The set that detectors choose their options on.
    """

    detectors: list[str]
    split: str
    own: Sample
    others: list[OODSet]
    missing: dict[str, str]
    tune_on: OODSet | None


def find_sets(
    asked: OOD, data: ImageData, images: Mapping[str, AnyData], *, split: str, limit: int | None, seed: int
) -> DetectionSets:
    """Read all sets that a request names, or that are handed over as ``images``.

    Raises:
        EvaluationError: Nothing to compare with, or settings that make no sense.
        DataError: A set that was named is missing or damaged; one of a group is left out and listed.
        UnknownNameError: There is no detector or set of a name.
    """
    names, detectors = plan_detection(asked, data.name, images)
    in_hand = {name: read_images(each, what=name, exact=False)[0] for name, each in images.items()}
    where: dict[str, Any] = {"data": data, "seed": seed, "root": asked.root, "download": asked.download}
    others, missing = load_sets(names, asked.sets, in_hand, split=split, limit=limit, **where)
    tune_on = None
    if asked.tune_on is not None:
        # Corrupted images to tune on are of validation images: those of `split` judge.
        (tune_on,), _ = load_sets([asked.tune_on], [asked.tune_on], in_hand, split="val", limit=TUNING_IMAGES, **where)
    return DetectionSets(detectors, split, take_sample(data, split, limit, seed), others, missing, tune_on)


def plan_detection(asked: OOD, dataset: str, in_hand: Collection[str] = ()) -> tuple[list[str], list[str]]:
    """Return the names of out-of-distribution sets and of detectors, once all that can be checked without images is.

    Args:
        asked: What is asked for.
        dataset: Name of the in-distribution set.
        in_hand: Names of the sets that are handed over as images.

    Raises:
        EvaluationError: Nothing to compare with, the in-distribution set itself, or settings that make no sense.
        UnknownNameError: There is no detector of a name.
    """
    names, detectors = expand_sets(dataset, asked.sets), list(dict.fromkeys(asked.detectors or DETECTORS.names()))
    for name in detectors:
        make_detector(name)  # what is misspelt is found before anything is computed
    wanted = [*names, *filter(None, [asked.tune_on])]
    if strange := set(in_hand).difference(wanted):
        raise EvaluationError(f"images={{{min(strange)!r}: …}} are none of the sets asked for: {', '.join(names)}")
    for name in wanted:
        if name not in in_hand and canonical_name(name) == canonical_name(dataset):
            raise EvaluationError(
                f"{name} is the in-distribution set itself; name one that the network was not trained on"
            )
    if asked.tune_on is not None and any(_is_same_kind(asked.tune_on, name) for name in names):
        raise EvaluationError(f"{asked.tune_on} cannot both choose options and judge them; tune on another set")
    return names, detectors


def _is_same_kind(one: str, other: str) -> bool:
    return (is_corrupted(one) and is_corrupted(other)) or canonical_name(one) == canonical_name(other)
