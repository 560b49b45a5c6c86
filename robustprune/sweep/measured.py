"""What an evaluation measures, with every default spelled out and every other image set looked at."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from robustprune.attacks import Attack
from robustprune.attacks.registry import expand_options
from robustprune.corruptions import corruption_options, expand_names
from robustprune.data import ImageData, Sample, stratified_indices
from robustprune.errors import DataError, SweepError
from robustprune.evaluation.attacks import share_attack_options
from robustprune.evaluation.corruption_sources import find_corrupted
from robustprune.evaluation.shift import load_shift
from robustprune.ood.detector import detector_options, make_detector
from robustprune.ood.image_sets import is_corrupted, load_set
from robustprune.ood.protocol import plan_detection
from robustprune.registry import suggest
from robustprune.runtime.files import hash_arrays, user_path
from robustprune.sweep.fingerprints import hash_content
from robustprune.sweep.spec import EvaluateSettings

_OURS = ("save_adversarial", "state")
_SHARED = ("checks", "eot", "union")


def resolve_evaluation(asked: EvaluateSettings, data: ImageData) -> tuple[dict[str, Any], list[str]]:
    """Return all that decides an evaluation's outcome, defaults spelled out, and the paths it depends on.

    Raises:
        RobustPruneError: Something is unknown, not there, or contradictory.
    """
    watched: list[str] = []
    resolved = {
        "split": asked.split,
        "limit": asked.limit,
        "seed": asked.seed,
        "latency": asked.latency,
        "attacks": _attacks(asked),
        "corruptions": _corruptions(asked, data, watched),
        "shift": _shift(asked, data, watched),
        "ood": _ood(asked, data, watched),
    }
    return resolved, watched


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the arguments of a function that have a default which JSON can hold."""
    found = {each.name: each.default for each in inspect.signature(function).parameters.values()}
    return {name: _plain(value) for name, value in found.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | tuple | list | None)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _in_json(options: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) if _is_plain(value) else repr(value) for name, value in options.items()}


def _attacks(asked: EvaluateSettings) -> dict[str, Any]:
    source = asked.attack_settings.get("transfer_from")
    if source not in (None, "dense"):
        raise SweepError(
            f"transfer_from is {source!r}; a sweep can transfer from 'dense', the network of the same seed"
        )
    for name in asked.attack_settings:
        if name in _OURS:
            raise SweepError(f"attack_settings has {name!r}, which names a file; a sweep has folders of its own")
        if name not in (*_SHARED, "transfer_from"):
            raise SweepError(f"there is no setting of attacks called {name!r}.{suggest(name, _SHARED)}")
    # Also where nothing is attacked: options without an attack are refused.
    request = asked.request().attacks
    own = share_attack_options(request)
    if not asked.attacks:
        return {}
    return {
        "order": list(asked.attacks),
        "epsilons": list(request.epsilons),
        "norm": asked.norm,
        "restarts": asked.restarts,
        "transfer_from": source,
        "options": {name: _in_json(expand_options(name, options)) for name, options in own.items()},
        "engine": Attack().model_dump(exclude={"name", "options"}),
        "further": {name: getattr(request, name) for name in _SHARED},
    }


def _corruptions(asked: EvaluateSettings, data: ImageData, watched: list[str]) -> dict[str, Any]:
    if asked.corruption_dir is not None and not user_path(asked.corruption_dir).is_dir():
        raise DataError(f"there is no folder {asked.corruption_dir} to read corrupted images from")
    _check_corrupted(asked, data)
    if asked.corruption_dir is not None:
        watched.append(asked.corruption_dir)
        return {"content": hash_content(asked.corruption_dir), "names": list(asked.corruptions)}
    if not asked.corruptions:
        return {}
    names = expand_names(list(asked.corruptions))
    options = {name: {**corruption_options(name)} for name in names}
    for name, own in options.items():
        own |= {key: value for key, value in asked.corruption_options.items() if key in own}
        options[name] = _in_json(own)
    folder = asked.corruption_options.get("folder")
    if folder:
        watched.append(str(folder))
    return {"options": options, **({"folder": hash_content(folder)} if folder else {})}


def _check_corrupted(asked: EvaluateSettings, data: ImageData) -> None:
    """Refuse now what an evaluation would refuse once the network is trained."""
    part = data.require(asked.split)
    places = torch.arange(len(part))
    if asked.limit is not None:
        places = stratified_indices(part.labels, asked.limit, asked.seed)
    # Options are tried on one image, and a published set is held against all labels.
    sample = Sample(part.take(places[:1]), part.labels[places].cpu(), places)
    find_corrupted(asked.request().corruptions, data, sample, asked.seed, asked.limit)


def _shift(asked: EvaluateSettings, data: ImageData, watched: list[str]) -> dict[str, str]:
    found = {}
    for name, where in asked.shift.items():
        images, labels = load_shift(where, data)
        found[name] = hash_arrays({"images": images.numpy(), "labels": labels.numpy()})
        watched.append(where.removeprefix("npz:").removeprefix("imagefolder:"))
    return found


def _ood(asked: EvaluateSettings, data: ImageData, watched: list[str]) -> dict[str, Any]:
    if not asked.ood:
        return {}
    protocol = asked.request().ood
    requests = plan_detection(protocol, data.name)
    detectors = sorted({name for chosen in requests.values() for name in chosen})
    options = {name: {**detector_options(name), **vars(make_detector(name))} for name in detectors}
    named, tuned_on = set(asked.ood), protocol.tune_on
    sets = {
        name: _foreign(name, asked, data, watched, needed=name in named or name == tuned_on)
        for name in [*requests, *([tuned_on] if tuned_on else [])]
    }
    plain = {name: {key: value for key, value in own.items() if _is_plain(value)} for name, own in options.items()}
    kept = protocol.model_dump(mode="json", exclude={"sets", "detectors", "cache", "root", "download"})
    return {"requests": requests, "detectors": plain, "protocol": kept, "sets": sets}


def _foreign(name: str, asked: EvaluateSettings, data: ImageData, watched: list[str], *, needed: bool) -> str:
    """Return the hash of a foreign set's images, or that it is not there, as members of a group may be."""
    if is_corrupted(name):
        return "made"
    places = {key: asked.ood_options[key] for key in ("root", "download") if key in asked.ood_options}
    try:
        found = load_set(name, data, split=asked.split, limit=asked.limit, seed=asked.seed, **places)
    except DataError:
        if needed:
            raise
        return "missing"
    watched.append(str(found.conversions.get("source") or ""))
    return hash_arrays({"images": found.images.numpy()})
