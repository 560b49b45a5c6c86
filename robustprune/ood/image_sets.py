"""Out-of-distribution image sets: which are near and far, and loading them at a network's size and channels.

OpenOOD v1.5 (Zhang et al. 2023, arXiv:2306.09301) fixes the groups of CIFAR-10 and CIFAR-100. It has none for
Fashion-MNIST and digits: theirs follow its groups for MNIST, with what would show the same classes left out and
sets added that every machine has. OpenOOD also drops single images of Tiny ImageNet and Places365 that show a
class of CIFAR's; a user who wants its figures to the digit takes its image lists, as an image folder.

Corrupted images of the network's own kind are in-distribution by content, shifted in looks. With full-spectrum
detection (Yang et al. 2023, "Full-Spectrum Out-of-Distribution Detection", arXiv:2204.05306) they count as
in-distribution: a detector that flags them tells looks, not content. As a set called ``corrupted`` they show what a
detector makes of them.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustprune.corruptions import SEVERITIES, corrupt, expand_names
from robustprune.data import DATASETS, ImageData, convert_channels, load_data, resize_images
from robustprune.data.pixels import INTERPOLATION
from robustprune.data.registry import default_root
from robustprune.errors import DataError, EvaluationError
from robustprune.registry import split_options, suggest
from robustprune.runtime.files import user_path
from robustprune.runtime.randomness import derive_seed

NEAR, FAR, SANITY, SHIFTED, OTHER = "near", "far", "sanity", "shifted", "other"

_PLACES_FAR_FROM_GREY = ("textures", "cifar10", "tiny-imagenet", "places365", "photo-patches")

PRESETS: dict[str, dict[str, tuple[str, ...]]] = {
    "cifar10": {NEAR: ("cifar100", "tiny-imagenet"), FAR: ("mnist", "svhn", "textures", "places365")},
    "cifar100": {NEAR: ("cifar10", "tiny-imagenet"), FAR: ("mnist", "svhn", "textures", "places365")},
    "fashion-mnist": {NEAR: ("mnist", "notmnist", "digits"), FAR: _PLACES_FAR_FROM_GREY},
    "digits": {NEAR: ("notmnist", "fashion-mnist"), FAR: _PLACES_FAR_FROM_GREY},
}
SANITY_SETS = ("noise", "uniform", "constant")
CORRUPTED = "corrupted"
IN_HAND = "given"  # what a set without a name is called
# Part of a preset, and of no layout of its own: found as a folder or an npz of that name.
_BY_FOLDER = frozenset(name for groups in PRESETS.values() for sets in groups.values() for name in sets)


@dataclass(frozen=True, eq=False)
class OODSet:
    """Images that are not of the network's kind, ready for it.

    Attributes:
        name: As it was asked for.
        images: (N, C, H, W) uint8.
        indices: (N,) int64, which images of the split they are.
        conversions: JSON-able: what was done to them, which may be what a detector sees.
    """

    name: str
    images: Tensor
    indices: Tensor
    conversions: dict[str, Any]


def load_set(
    name: str,
    data: ImageData,
    *,
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
    root: str | Path | None = None,
    download: bool = False,
) -> OODSet:
    """Return an out-of-distribution set, its test split where it has one, converted to the shape of ``data``.

    ``textures``, ``places365``, ``mnist`` and ``notmnist`` are looked for as folder or npz of that name below ``root``
    and the usual root; ``corrupted`` stands for images of ``data`` itself, of ``split``. Of more images than ``limit``,
    so many are chosen at random.

    Raises:
        DataError: The set is missing or damaged.
        UnknownNameError: There is no set of that name.
    """
    if is_corrupted(name):
        return _corrupted(name, data, split, limit, seed)
    height, width = data.image_size
    square = height if height == width else None
    found = load_data(
        _resolve(name, root), root=root, image_size=square, channels=data.channels, seed=seed, download=download,
        validation_fraction=0,
    )  # fmt: skip
    own_split = next(part for part in ("test", "val", "train") if part in found.splits())
    part = found.require(own_split)
    indices = _choose(len(part), limit, seed)
    images = part.take(indices)
    conversions = {"source": found.provenance.get("source"), "split": own_split, "of": len(part)}
    kept = ("channels_from", "channels_to", "resized_from", "resized_to", "interpolation")
    conversions |= {key: found.provenance.get(key) for key in kept}
    if images.shape[2:] != (height, width):
        conversions |= {"resized_from": list(images.shape[2:]), "resized_to": [height, width]}
        conversions["interpolation"] = INTERPOLATION
        images = resize_images(images, (height, width))
    return OODSet(name, images, indices, conversions)


def fit_set(name: str, images: Tensor, data: ImageData, limit: int | None, seed: int) -> OODSet:
    """Return an out-of-distribution set of images in hand (N, C, H, W) uint8, converted to the shape of ``data``."""
    indices = _choose(len(images), limit, seed)
    chosen = images[indices]
    fitted = resize_images(convert_channels(chosen, data.channels), data.image_size)
    resized = fitted.shape[2:] != chosen.shape[2:]
    conversions = {
        "source": None,
        "of": len(images),
        "channels_from": chosen.shape[1],
        "channels_to": data.channels,
        "resized_from": list(chosen.shape[2:]) if resized else None,
        "resized_to": list(fitted.shape[2:]) if resized else None,
        "interpolation": INTERPOLATION if resized else None,
    }
    return OODSet(name, fitted, indices, conversions)


def load_sets(
    names: Iterable[str], named: Container[str], in_hand: Mapping[str, Tensor], data: ImageData, **settings: Any
) -> tuple[list[OODSet], dict[str, str]]:
    """Return the sets that are there, and the members of groups that are not, with the reason.

    Those that were asked for one by one, ``named``, have to be there; ``in_hand`` are images (N, C, H, W) uint8 of
    some, and ``settings`` those of `load_set`.

    Raises:
        DataError: A set that was asked for by name is not there, or none is.
    """
    found, missing = [], {}
    for name in names:
        try:
            if name in in_hand:
                found.append(fit_set(name, in_hand[name], data, settings["limit"], settings["seed"]))
            else:
                found.append(load_set(name, data, **settings))
        except DataError as error:
            if name in named:
                raise
            missing[name] = str(error)
    if not found:
        raise DataError(f"none of the out-of-distribution sets is on this machine. {' '.join(missing.values())}")
    return found, missing


def _corrupted(name: str, data: ImageData, split: str, limit: int | None, seed: int) -> OODSet:
    corruptions, severities = parse_corrupted(name)
    part = data.require(split)
    indices = _choose(len(part), limit, seed)
    own = part.take(indices).cpu()
    images = corrupt_evenly(own, indices, corruptions, severities, seed)
    if torch.equal(images, own):
        raise EvaluationError(f"{name} changes none of the images of {data.name}, so there is nothing to detect")
    conversions = {"source": data.name, "split": split, "of": len(part)}
    return OODSet(name, images, indices, {**conversions, "corruptions": corruptions, "severities": severities})


def _resolve(name: str, root: str | Path | None) -> str:
    if name in DATASETS.names() or name not in _BY_FOLDER:
        return name
    folders = [default_root(), *([] if root is None else [user_path(root).absolute()])][::-1]
    for folder in folders:
        if (folder / name).is_dir():
            return f"imagefolder:{folder / name}"
        if (folder / f"{name}.npz").is_file():
            return f"npz:{folder / name}.npz"
    looked = " and ".join(map(str, folders))
    raise DataError(
        f"there is no folder {name} or file {name}.npz in {looked}; put the images there, as {name}/CLASS/*"
    )


def _choose(count: int, limit: int | None, seed: int) -> Tensor:
    if limit is None or limit >= count:
        return torch.arange(count)
    # Raw draws: the same images on every platform and with every numpy. A smaller limit's are part of a larger's.
    order = np.argsort(np.random.PCG64(seed).random_raw(count), kind="stable")
    return torch.from_numpy(np.sort(order[:limit]).astype(np.int64))


def group_of(dataset: str, other: str) -> str:
    """Return ``near``, ``far``, ``sanity``, ``shifted`` or ``other``: what ``other`` is to ``dataset``."""
    if other in SANITY_SETS:
        return SANITY
    if is_corrupted(other):
        return SHIFTED
    groups = PRESETS.get(dataset, {})
    return next((group for group, sets in groups.items() if other in sets), OTHER)


def expand_sets(dataset: str, asked: Iterable[str]) -> list[str]:
    """Return names of sets, where those of groups (``near``, ``far``, ``sanity``) stand for theirs.

    Raises:
        EvaluationError: A group that is not known for the in-distribution set ``dataset``, or nothing asked for.
    """
    groups = {**PRESETS.get(dataset, {}), SANITY: SANITY_SETS}
    names: list[str] = []
    for name in asked:
        if name in (NEAR, FAR) and name not in groups:
            raise EvaluationError(
                f"no {name} sets are known for {dataset!r}, only for {', '.join(PRESETS)}; name the sets, or sanity"
            )
        names += groups.get(name, (name,))
    if not names:
        raise EvaluationError("name at least one out-of-distribution set")
    return list(dict.fromkeys(names))


def is_corrupted(name: str) -> bool:
    """Return whether a set's name stands for corrupted images."""
    return name.partition(":")[0] == CORRUPTED


def parse_corrupted(name: str) -> tuple[list[str], list[int]]:
    """Return what ``corrupted:corruption=fog+snow,severity=4+5`` stands for: corruptions and severities.

    All by default.

    Raises:
        EvaluationError: No such severity, or an option that is neither.
        UnknownNameError: No such corruption.
    """
    plain, options = split_options(name)
    known = ("corruption", "severity")
    wrong = [key for key in options if key not in known]
    if plain != CORRUPTED or wrong:
        raise EvaluationError(
            f"{name!r}: corrupted images are chosen as in corrupted:corruption=fog+snow,severity=5."
            f"{suggest(wrong[0], known) if wrong else ''}"
        )
    severities = options.get("severity", "1+2+3+4+5").split("+")
    if not set(severities) <= set(map(str, SEVERITIES)):
        raise EvaluationError(f"{name!r}: severities are 1 to 5, several as in severity=4+5")
    return expand_names(options.get("corruption", "all").split("+")), list(map(int, severities))


def corrupt_evenly(
    images: Tensor, indices: Tensor, corruptions: Sequence[str], severities: Sequence[int], seed: int
) -> Tensor:
    """Return images (N, C, H, W) uint8, each under one corruption at one severity, drawn with equal chances.

    ``indices`` (N,) say which images they are; one comes out the same in any subset.
    """
    cells = [(name, severity) for name in corruptions for severity in severities]
    drawn = torch.tensor([derive_seed(seed, CORRUPTED, index) % len(cells) for index in indices.tolist()])
    result = images.clone()
    for number, (name, severity) in enumerate(cells):
        chosen = (drawn == number).nonzero().flatten()
        if len(chosen):
            result[chosen] = corrupt(images[chosen], name, severity, seed=seed, sample_ids=indices[chosen])
    return result
