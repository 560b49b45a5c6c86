"""Image sets that are folders of image files, one folder a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from robustprune.data.contract import DatasetRequest, RawData
from robustprune.data.image_files import list_images, read_layout
from robustprune.data.streaming import StreamedSplit
from robustprune.errors import DataError

_SPLIT_FOLDERS = ("train", "val", "test")


def load_image_folder(request: DatasetRequest) -> RawData:
    """Your own image files: DIR/train/CLASS/*.png with DIR/test or DIR/val, or DIR/CLASS/* as a test set."""
    folder = request.argument_path()
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; expected one with train/CLASS/*.png in it")
    parts, layout = _find_parts(folder)
    files = {name: _files_by_class(part) for name, part in parts.items()}
    classes = _class_names(files)
    numbers = {name: number for number, name in enumerate(classes)}
    channels, size = _common_layout(files, request)
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


def _find_parts(folder: Path) -> tuple[dict[str, Path], str]:
    """Return the folder of each split, and a sentence on how the folders were understood."""
    parts = {name: folder / name for name in _SPLIT_FOLDERS if (folder / name).is_dir()}
    if not parts:
        return {"test": folder}, "no train, val or test folder: everything is the test split"
    if "test" not in parts and "val" in parts:
        parts["test"] = parts.pop("val")
        return parts, "no test folder: val is the test split"
    return parts, f"folders {', '.join(parts)}"


def _files_by_class(folder: Path) -> dict[str, list[Path]]:
    try:
        owners = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        files = {owner.name: list_images(owner) for owner in owners}
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error}") from error
    empty = [name for name, paths in files.items() if not paths]
    if not files or empty:
        where = f"class folder {folder / empty[0]}" if empty else str(folder)
        wanted = "image files" if empty else "class folders"
        raise DataError(f"{where} holds no {wanted}; expected CLASS/*.png, .jpg, .bmp, .webp, .tif or .ppm")
    return files


def _class_names(files: Mapping[str, Mapping[str, Sequence[Path]]]) -> tuple[str, ...]:
    known = set(files.get("train", {})) or {name for owners in files.values() for name in owners}
    for part, owners in files.items():
        unknown = sorted(set(owners) - known)
        if unknown:
            raise DataError(f"the {part} folder has class {unknown[0]!r}, which the train folder has not")
    return tuple(sorted(known))


def _common_layout(
    files: Mapping[str, Mapping[str, Sequence[Path]]], request: DatasetRequest
) -> tuple[int, tuple[int, int] | None]:
    paths = [path for owners in files.values() for group in owners.values() for path in group]
    layout = read_layout(paths)
    if layout.size is None and request.image_size is None:
        raise DataError(
            f"the images are of different sizes, {' and '.join(layout.differing)}; "
            "give an image size to resize them to (--image-size N, image_size=N in Python)"
        )
    return layout.channels, layout.size
