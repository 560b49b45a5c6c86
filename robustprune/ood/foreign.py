"""Loading foreign image sets at the size and with the channels that a network takes."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustprune.data import DATASETS, ImageData, canonical_name, load_data, resize_images
from robustprune.data.pixels import INTERPOLATION
from robustprune.data.registry import default_root
from robustprune.errors import DataError, EvaluationError
from robustprune.ood.groups import PRESETS
from robustprune.ood.shifted import corrupt_evenly, is_corrupted, parse_corrupted
from robustprune.runtime.files import user_path

# Part of a preset, and of no layout of its own: found as a folder or an npz of that name.
_BY_FOLDER = frozenset(name for groups in PRESETS.values() for sets in groups.values() for name in sets)


@dataclass(frozen=True, eq=False)
class ForeignSet:
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


def load_foreign(
    name: str,
    data: ImageData,
    *,
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
    root: str | Path | None = None,
    download: bool = False,
) -> ForeignSet:
    """Return a foreign set, its test split where it has one, converted to the shape of ``data``.

    Args:
        name: A data set's name; ``textures``, ``places365``, ``mnist`` and ``notmnist`` are looked for as folder or
            npz of that name below ``root`` and the usual root; ``corrupted`` stands for images of ``data`` itself.
        data: The in-distribution set.
        split: Which images of ``data`` are corrupted.
        limit: Take so many images, chosen at random; fewer where there are fewer.
        seed: Of the choice, and of sets that are made up.
        root: Folder to look in before the usual ones.
        download: Whether a missing set may be downloaded.

    Raises:
        DataError: The set is missing or damaged.
        EvaluationError: It is the in-distribution set itself.
        UnknownNameError: There is no set of that name.
    """
    if is_corrupted(name):
        return _corrupted(name, data, split, limit, seed)
    if canonical_name(name) == canonical_name(data.name):
        raise EvaluationError(f"{name} is the in-distribution set itself; name one that the network was not trained on")
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
    return ForeignSet(name, images, indices, conversions)


def load_requests(
    names: Iterable[str], named: Container[str], data: ImageData, **settings: Any
) -> tuple[list[ForeignSet], dict[str, str]]:
    """Return the sets that are there, and the members of groups that are not, with the reason.

    Args:
        names: The sets.
        named: Those that were asked for one by one, which have to be there.
        data: The in-distribution set.
        settings: As `load_foreign`.

    Raises:
        DataError: A set that was asked for by name is not there, or none is.
    """
    found, missing = [], {}
    for name in names:
        try:
            found.append(load_foreign(name, data, **settings))
        except DataError as error:
            if name in named:
                raise
            missing[name] = str(error)
    if not found:
        raise DataError(f"none of the foreign sets is on this machine. {' '.join(missing.values())}")
    return found, missing


def _corrupted(name: str, data: ImageData, split: str, limit: int | None, seed: int) -> ForeignSet:
    corruptions, severities = parse_corrupted(name)
    part = data.require(split)
    indices = _choose(len(part), limit, seed)
    own = part.take(indices).cpu()
    images = corrupt_evenly(own, indices, corruptions, severities, seed)
    if torch.equal(images, own):
        raise EvaluationError(f"{name} changes none of the images of {data.name}, so there is nothing to tell apart")
    conversions = {"source": data.name, "split": split, "of": len(part)}
    return ForeignSet(name, images, indices, {**conversions, "corruptions": corruptions, "severities": severities})


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
