"""Image sets that are folders of image files, one folder a class."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from robustprune.data.contract import DatasetRequest, RawData, Remarks
from robustprune.data.image_files import (
    ancestry,
    identity,
    is_dangling,
    is_image,
    is_junk,
    list_images,
    read_layout,
    remark_hidden,
)
from robustprune.data.streaming import StreamedSplit
from robustprune.errors import DataError
from robustprune.registry import suggest
from robustprune.runtime.files import printable

_SPLIT_NAMES = {
    "train": {"train", "training", "trn"},
    "val": {"val", "valid", "validation", "validate", "dev", "development"},
    "test": {"test", "testing", "tst", "eval", "evaluation"},
}
_BESIDES = ("set", "data", "dataset", "split", "images", "image", "imgs", "img", "seg", "folder")
_FORMATS = "CLASS/*.png, .jpg, .bmp, .webp, .tif, .gif or .ppm"

_Files = dict[str, dict[str, list[Path]]]  # split → class → its files


def load_image_folder(request: DatasetRequest) -> RawData:
    """Your own image files: DIR/train/CLASS/*.png with DIR/test or DIR/val, or DIR/CLASS/* as a test set."""
    folder = request.argument_path()
    if not folder.is_dir():
        raise DataError(f"there is no folder {printable(folder)}; expected one with train/CLASS/*.png in it")
    remarks = Remarks(folder)
    try:
        parts, layout = _find_parts(folder, remarks)
        files = {name: _files_by_class(part, remarks) for name, part in parts.items()}
    except OSError as error:
        raise DataError(f"{printable(folder)} cannot be read: {error}") from error
    classes = _class_names(files, remarks)
    numbers = {name: number for number, name in enumerate(classes)}
    channels, size = _common_layout(files, request, remarks)
    _remark_twice(files, remarks)
    remarks.say()
    side = request.image_size
    # Files of different sizes have none of their own; they come in the size asked for.
    image_size = size or (side or 0, side or 0)

    def split(name: str) -> StreamedSplit | None:
        if name not in files:
            return None
        pairs = [(path, numbers[owner]) for owner, paths in files[name].items() for path in paths]
        return StreamedSplit(
            paths=tuple(path for path, _ in pairs),
            labels=torch.tensor([number for _, number in pairs], dtype=torch.int64),
            channels=channels,
            image_size=image_size,
            folder=folder,
            workers=request.workers,
        )

    return RawData(
        classes=classes,
        train=split("train"),
        val=split("val"),
        test=split("test"),
        flips=True,
        notes={"source": str(folder), "layout": layout, "resized_from": list(size) if size else "mixed"},
    )


def _find_parts(folder: Path, remarks: Remarks) -> tuple[dict[str, Path], str]:
    """Return the folder of each split, and a sentence on how the folders were understood."""
    inside = sorted(folder.iterdir())
    children = [path for path in inside if path.is_dir() and not is_junk(path.name)]
    named = [(split, path) for path in children if (split := _split_called(path.name))]
    # A class may be called train, too; a split is what holds folders, of which one is enough.
    if not any(_holds_folders(path) for _, path in named):
        if len(named) == len(children) > 1:
            raise DataError(
                f"{printable(folder)} holds only {' and '.join(printable(path.name) for _, path in named)}, which are "
                f"called as splits are and hold no class folders; expected train/{_FORMATS}"
            )
        return {"test": folder}, "no train, val or test folder: everything is the test split"
    parts: dict[str, Path] = {}
    for split, path in named:
        if split in parts:
            raise DataError(
                f"{printable(folder)} holds both {printable(parts[split].name)} and {printable(path.name)}, and either "
                f"may be the {split} split; rename or move one of them"
            )
        parts[split] = path
    for path in children:
        if path not in parts.values() and list_images(path):
            remarks.add("left out, beside the folders of the splits", path)
    for path in inside:
        _remark_outside(path, remarks)
    layout = f"folders {', '.join(printable(parts[split].name) for split in _SPLIT_NAMES if split in parts)}"
    if "test" not in parts and "val" in parts:
        layout = f"no test folder: {printable(parts['val'].name)} is the test split"
        parts["test"] = parts.pop("val")
    parts = {split: parts[split] for split in _SPLIT_NAMES if split in parts}
    for split, path in parts.items():
        if path.name != split:
            remarks.add(f"taken as the {split} split", path)
    return parts, layout


def _split_called(name: str) -> str | None:
    """Return the split that a folder of that name is usually meant for: ``Train``, ``valid``, ``test_set``, ``dev``."""
    words = [word for word in re.findall("[a-z]+", name.casefold()) if word not in _BESIDES]
    if len(words) != 1:
        return None
    ending = "|".join(_BESIDES)
    stem = re.sub(f"(?:{ending})$", "", words[0])
    return next((split for split, names in _SPLIT_NAMES.items() if stem in names), None)


def _holds_folders(folder: Path) -> bool:
    return any(path.is_dir() and not is_junk(path.name) for path in folder.iterdir())


def _files_by_class(folder: Path, remarks: Remarks) -> dict[str, list[Path]]:
    files = {}
    for owner in _class_folders(folder, remarks):
        name = unicodedata.normalize("NFC", printable(owner.name))
        if printable(owner.name) != owner.name:
            remarks.add("named after bytes that are no UTF-8", owner)
        if name in files:
            raise DataError(
                f"{printable(folder)} holds two folders of the class {name!r}, whose accents are coded twice"
            )
        files[name] = list_images(owner, remarks)
        if not files[name]:
            raise DataError(f"class folder {printable(owner)} holds no image files; expected {_FORMATS}")
    if not files:
        direct = sum(path.is_file() and is_image(path, Remarks(folder)) for path in folder.iterdir())
        found = f", but {direct} images: it may be one folder too deep" if direct else ""
        raise DataError(f"{printable(folder)} holds no class folders{found}; expected {_FORMATS}")
    _refuse_splits_as_classes(folder, files)
    return files


def _class_folders(folder: Path, remarks: Remarks) -> Iterator[Path]:
    above = ancestry(folder)
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or is_junk(path.name):
            _remark_outside(path, remarks)
        elif (path.stat().st_dev, path.stat().st_ino) in above:
            remarks.add("left out, as links that lead in a circle", path)
        else:
            yield path


def _remark_outside(path: Path, remarks: Remarks) -> None:
    """Say what is left out of something that lies beside the class folders, or the splits, and is no such folder."""
    if is_dangling(path):
        remarks.add("left out, as links that lead nowhere", path)
    elif path.is_dir() and is_junk(path.name):
        remark_hidden(path, remarks)
    elif path.is_file() and is_image(path, remarks):
        remarks.add("left out, as they lie in no class folder", path)


def _refuse_splits_as_classes(folder: Path, files: Mapping[str, Sequence[Path]]) -> None:
    """Refuse class folders that hold nothing but the same folders: they are splits, or one folder above the classes."""
    below = []
    for paths in files.values():
        owner = paths[0]
        while owner.parent != folder:
            owner = owner.parent
        below.append({path.relative_to(owner).parts[0] if path.parent != owner else "" for path in paths})
    if "" in set().union(*below):
        return
    shared = sorted(set.intersection(*below))
    if shared and len(set().union(*below)) > 1:
        kinds = ", ".join(map(printable, shared[:3])) + (", …" if shared[3:] else "")
        names = " and ".join(list(files)[:2])
        advice = (
            f"name {printable(folder / names)} itself"
            if len(files) == 1
            else "if they are splits, call them train, val and test"
        )
        raise DataError(
            f"{names} in {printable(folder)} hold no images but folders of the same names ({kinds}), so they are no "
            f"classes; {advice}"
        )


def _remark_twice(files: _Files, remarks: Remarks) -> None:
    """Say which files are read twice, through links, as images of two splits or of two classes."""
    seen: dict[tuple[int, int], tuple[str, str]] = {}
    for part, owners in files.items():
        for owner, paths in owners.items():
            for path in paths:
                before = seen.setdefault(identity(path), (part, owner))
                if before[0] != part:
                    remarks.add(f"the same files as in the {before[0]} split", path)
                elif before[1] != owner:
                    remarks.add("the same files as in another class", path)


def _class_names(files: _Files, remarks: Remarks) -> tuple[str, ...]:
    known = sorted(files.get("train", {}) or {name for owners in files.values() for name in owners})
    for part, owners in files.items():
        unknown = sorted(set(owners) - set(known))
        if unknown:
            raise DataError(
                f"the {part} folder has class {unknown[0]!r}, which the train folder has not."
                f"{suggest(unknown[0], known)}"
            )
    if "train" in files and len(known) == 1:
        raise DataError(
            f"the train folder has only one class, {known[0]!r}, and there is nothing to tell apart; it may be one "
            f"folder too deep or too high: expected train/{_FORMATS} of two classes or more"
        )
    alike: dict[str, list[str]] = {}
    for name in known:
        alike.setdefault(" ".join(name.casefold().split()), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            remarks.add("classes kept apart that differ only in capitals or blanks", ", ".join(map(repr, names)))
    return tuple(known)


def _common_layout(files: _Files, request: DatasetRequest, remarks: Remarks) -> tuple[int, tuple[int, int] | None]:
    paths = [path for owners in files.values() for group in owners.values() for path in group]
    layout = read_layout(paths, remarks)
    if layout.size is None and request.image_size is None:
        raise DataError(
            f"the images are of different sizes, {' and '.join(layout.differing)}; "
            "give an image size to resize them to (--image-size N, image_size=N in Python)"
        )
    return layout.channels, layout.size
