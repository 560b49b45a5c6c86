"""Tiny ImageNet in the folder it is published as.

Its test labels were never published, so the published validation images are the test split here, and the
validation split comes out of the training images as for any other set.
"""

from __future__ import annotations

from pathlib import Path

import torch

from robustprune.data.contract import DatasetRequest, RawData
from robustprune.data.places import find_folder
from robustprune.data.remarks import Remarks
from robustprune.data.streaming import StreamedSplit
from robustprune.data.walk import list_images
from robustprune.errors import DataError

_SIDE = 64


def load_tiny_imagenet(request: DatasetRequest) -> RawData:
    """Tiny ImageNet: 110,000 colour 64×64 photographs, 200 classes (published validation images as test)."""
    folder = find_folder(request)
    try:
        classes = tuple(sorted((folder / "wnids.txt").read_text().split()))
        annotations = (folder / "val" / "val_annotations.txt").read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Tiny ImageNet in {folder} cannot be read ({error}); unpack it again") from error
    numbers = {name: number for number, name in enumerate(classes)}
    test_paths, test_labels = _read_annotations(annotations, folder, numbers)
    remarks = Remarks(folder)
    train = [(path, numbers[name]) for name in classes for path in _class_images(folder, name, remarks)]
    remarks.say()

    def split(paths: list[Path], labels: list[int]) -> StreamedSplit:
        labels_tensor = torch.tensor(labels, dtype=torch.int64)
        return StreamedSplit(tuple(paths), labels_tensor, 3, (_SIDE, _SIDE), folder, request.workers)

    return RawData(
        classes=classes,
        train=split([path for path, _ in train], [number for _, number in train]),
        test=split(test_paths, test_labels),
        flips=True,
        notes={"source": str(folder), "layout": "the published validation images are the test split"},
    )


def _class_images(folder: Path, name: str, remarks: Remarks) -> list[Path]:
    place = folder / "train" / name / "images"
    paths = list_images(place, remarks) if place.is_dir() else []
    if not paths:
        raise DataError(f"{place} holds no images; unpack Tiny ImageNet again")
    return paths


def _read_annotations(lines: list[str], folder: Path, numbers: dict[str, int]) -> tuple[list[Path], list[int]]:
    paths, labels = [], []
    for line in filter(None, lines):
        name, _, rest = line.partition("\t")
        owner = rest.partition("\t")[0]
        if owner not in numbers:
            raise DataError(
                f"{folder / 'val' / 'val_annotations.txt'} gives {name!r} the class {owner!r}, "
                "which wnids.txt does not list; unpack Tiny ImageNet again"
            )
        paths.append(folder / "val" / "images" / name)
        labels.append(numbers[owner])
    return paths, labels
