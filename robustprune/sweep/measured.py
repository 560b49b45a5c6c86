"""What an evaluation measures, with every default spelled out and every other image set looked at."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from robustprune.attacks.registry import expand_options
from robustprune.attacks.requests import Attack, Attacks
from robustprune.corruptions import corruption_options
from robustprune.corruptions.apply import options_of
from robustprune.data import ImageData, Sample, stratified_indices
from robustprune.errors import DataError, SweepError
from robustprune.evaluation.attacks import share_attack_options
from robustprune.evaluation.corruption_sources import find_corrupted
from robustprune.evaluation.requests import Evaluation
from robustprune.evaluation.shift import load_shift
from robustprune.ood.detection_sets import plan_detection
from robustprune.ood.detector import detector_options, make_detector
from robustprune.ood.image_sets import is_corrupted, load_set
from robustprune.registry import split_options
from robustprune.runtime.files import hash_arrays
from robustprune.sweep.graph import hash_content

# Where files lie and are kept is not what is measured.
_PLACES = {"cache", "root", "download"}


def resolve_evaluation(asked: Evaluation, data: ImageData) -> tuple[dict[str, Any], list[str]]:
    """Return all that decides an evaluation's outcome, defaults spelled out, and the paths it depends on."""
    watched: list[str] = []
    resolved = {
        **asked.model_dump(include={"split", "limit", "seed", "latency"}),
        "attacks": _attacks(asked.attacks),
        "corruptions": _corruptions(asked, data, watched),
        "shift": _shift(asked, data, watched),
        "ood": _ood(asked, data, watched) if asked.ood.sets else {},
    }
    if asked.certify.sigma is not None:
        resolved["certify"] = asked.certify.model_dump(mode="json")
    return resolved, watched


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the arguments of a function that have a default which JSON can hold."""
    return _plain_ones({each.name: each.default for each in inspect.signature(function).parameters.values()})


def _plain_ones(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of some options that JSON can hold."""
    found = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    return {
        name: value for name, value in found.items() if isinstance(value, str | int | float | bool | list | dict | None)
    }


def _in_json(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as JSON can hold them, some as Python would write them."""
    return {name: repr(value) for name, value in options.items()} | _plain_ones(options)


def _attacks(asked: Attacks) -> dict[str, Any]:
    if asked.transfer_from not in (None, "dense"):
        raise SweepError(
            f"transfer_from is {asked.transfer_from!r}; a sweep can transfer from 'dense', the network of the same seed"
        )
    if asked.save_adversarial is not None:
        raise SweepError("attacks have save_adversarial, which names a file; a sweep has folders of its own")
    # Also where nothing is attacked: options without an attack are refused.
    own = share_attack_options(asked)
    if not asked.names:
        return {}
    return {
        **asked.model_dump(mode="json", exclude={"save_adversarial"}),
        "options": {text: _in_json(expand_options(split_options(text)[0], options)) for text, options in own.items()},
        "engine": Attack().model_dump(include={"early_stop", "selection", "frozen"}),
    }


def _corruptions(asked: Evaluation, data: ImageData, watched: list[str]) -> dict[str, Any]:
    _check_corrupted(asked, data)
    wanted = asked.corruptions
    if wanted.published is not None:
        watched.append(wanted.published)
        return {"content": hash_content(wanted.published), "names": list(wanted.names)}
    if not wanted.names:
        return {}
    given = options_of(wanted)
    found: dict[str, Any] = {
        "options": {name: _in_json({**corruption_options(name), **own}) for name, own in given.items()}
    }
    if folders := sorted({str(own["folder"]) for own in given.values() if own.get("folder")}):
        watched.extend(folders)
        found["folder"] = list(map(hash_content, folders))
    return found


def _check_corrupted(asked: Evaluation, data: ImageData) -> None:
    """Refuse now what an evaluation would refuse once the network is trained."""
    part = data.require(asked.split)
    places = torch.arange(len(part))
    if asked.limit is not None:
        places = stratified_indices(part.labels, asked.limit, asked.seed)
    # Options are tried on one image, and a published set is held against all labels.
    sample = Sample(part.take(places[:1]), part.labels[places].cpu(), places)
    find_corrupted(asked.corruptions, data, sample, asked.seed, asked.limit)


def _shift(asked: Evaluation, data: ImageData, watched: list[str]) -> dict[str, str]:
    found = {}
    for name, where in asked.shift.sets.items():
        images, labels = load_shift(where, data)
        found[name] = hash_arrays({"images": images.numpy(), "labels": labels.numpy()})
        watched.append(where.removeprefix("npz:").removeprefix("imagefolder:"))
    return found


def _ood(asked: Evaluation, data: ImageData, watched: list[str]) -> dict[str, Any]:
    wanted = asked.ood
    sets, detectors = plan_detection(wanted, data.name)
    needed = {*wanted.sets, wanted.tune_on}
    return {
        "requests": {name: detectors for name in sets},
        "detectors": {name: _plain_ones({**detector_options(name), **vars(make_detector(name))}) for name in detectors},
        "protocol": wanted.model_dump(mode="json", exclude={"sets", "detectors", *_PLACES}),
        "sets": {
            name: _images_of(name, asked, data, watched, needed=name in needed)
            for name in filter(None, [*sets, wanted.tune_on])
        },
    }


def _images_of(name: str, asked: Evaluation, data: ImageData, watched: list[str], *, needed: bool) -> str:
    """Return the hash of an out-of-distribution set, or that it is not there, as members of a group may be."""
    if is_corrupted(name):
        return "made"
    places = asked.ood.model_dump(include={"root", "download"})
    try:
        found = load_set(name, data, split=asked.split, limit=asked.limit, seed=asked.seed, **places)
    except DataError:
        if needed:
            raise
        return "missing"
    watched.append(str(found.conversions.get("source") or ""))
    return hash_arrays({"images": found.images.numpy()})
