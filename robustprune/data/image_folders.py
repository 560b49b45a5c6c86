"""Image sets that are folders of image files, one folder a class."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from robustprune.data.contract import DatasetRequest, RawData
from robustprune.data.streaming import StreamedSplit, read_layout, stream_files
from robustprune.errors import DataError, DataWarning
from robustprune.registry import suggest
from robustprune.runtime.files import printable

_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval"),
}
_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".pbm", ".pgm", ".ppm", ".pnm", ".webp", ".tif", ".tiff", ".gif"}
)
_OTHER_FORMATS = frozenset({".avif", ".heic", ".heif", ".jp2", ".jxl", ".tga", ".svg", ".exr", ".dcm", ".dng", ".npy"})
_EXPECTED = "CLASS/*.png, .jpg, .bmp, .webp, .tif, .gif or .ppm"

_Files = dict[str, dict[str, list[Path]]]  # split → class → its files


def load_imagefolder(request: DatasetRequest) -> RawData:
    """Your own image files: DIR/train/CLASS/*.png with DIR/test or DIR/val, or DIR/CLASS/* as a test set."""
    folder = request.argument_path()
    if not folder.is_dir():
        raise DataError(f"there is no folder {printable(folder)}; expected one with train/CLASS/*.png in it")
    left_out: list[Path] = []
    try:
        parts, layout = _find_parts(folder, left_out)
        files = {split: _files_by_class(part, left_out) for split, part in parts.items()}
        renamed = {split: part for split, part in parts.items() if part.name != split and part != folder}
        remarks = [f"{printable(part.name)} taken as the {split} split" for split, part in renamed.items()]
        remarks += _shared_between_splits(files)
    except OSError as error:
        raise DataError(f"{printable(folder)} cannot be read: {error}") from error
    if left_out:
        further = f" and {len(left_out) - 1} more" if left_out[1:] else ""
        remarks.append(
            f"{printable(left_out[0].relative_to(folder))}{further} left out, outside the class folders of a split or "
            "of no format that is read"
        )
    if remarks:
        warnings.warn(f"{printable(folder)}: {'; '.join(remarks)}", DataWarning, stacklevel=2)
    classes = _class_names(files)
    numbers = {name: number for number, name in enumerate(classes)}
    channels, sizes = read_layout([path for owners in files.values() for paths in owners.values() for path in paths])
    if len(sizes) > 1 and request.image_size is None:
        shown = (f"{printable(path)} ({height}x{width})" for (height, width), path in list(sizes.items())[:2])
        raise DataError(
            f"the images are of different sizes, {' and '.join(shown)}; "
            "give an image size to resize them to (--image-size N, image_size=N in Python)"
        )
    # Files of different sizes have none of their own; they come in the size asked for.
    side = request.image_size or 0
    size = next(iter(sizes)) if len(sizes) == 1 else (side, side)

    def split(owners: Mapping[str, Sequence[Path]]) -> StreamedSplit:
        labelled = [(path, numbers[owner]) for owner, paths in owners.items() for path in paths]
        return stream_files(labelled, channels, size, folder, request.workers)

    return RawData(
        classes=classes,
        **{name: split(owners) for name, owners in files.items()},
        flips=True,
        notes={"source": str(folder), "layout": layout, "resized_from": list(size) if len(sizes) == 1 else "mixed"},
    )


def list_images(folder: Path, left_out: list[Path]) -> list[Path]:
    """Return the image files anywhere below ``folder``, sorted by path.

    Links are followed, but to folders that are read already or hold this one. What is hidden is left out; so is what
    ``left_out`` takes: other formats, pipes, links that lead nowhere.
    """
    found = []
    seen = {folder.resolve(), *folder.resolve().parents}
    for place, subfolders, names in os.walk(folder, followlinks=True, onerror=_raise):
        here, entered = Path(place), []
        for name in sorted(subfolders):
            real = (here / name).resolve()
            if not _is_hidden(name) and real not in seen:
                seen.add(real)
                entered.append(name)
        subfolders[:] = entered
        for name in names:
            path = here / name
            if _is_image(path):
                found.append(path)
            elif path.suffix.lower() in _SUFFIXES | _OTHER_FORMATS and not _is_hidden(name):
                left_out.append(path)
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "@eaDir")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and not _is_hidden(path.name) and path.is_file()


def _subfolders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not _is_hidden(path.name)]


def _find_parts(folder: Path, left_out: list[Path]) -> tuple[dict[str, Path], str]:
    """Return the folder of each split, and a sentence on how the folders were understood."""
    children = _subfolders(folder)
    called = {path: split for path in children for split, names in _SPLITS.items() if path.name.casefold() in names}
    # A class may be called train, too; a split is what holds folders, of which one is enough.
    if not any(_subfolders(path) for path in called):
        if len(called) == len(children) > 1:
            raise DataError(f"the splits in {printable(folder)} hold no class folders; expected train/{_EXPECTED}")
        return {"test": folder}, "no train, val or test folder: everything is the test split"
    parts: dict[str, Path] = {}
    for path, split in called.items():
        if parts.setdefault(split, path) != path:
            raise DataError(
                f"{printable(folder)} holds both {parts[split].name} and {path.name}, and either may be the {split} "
                "split; rename or move one of them"
            )
    left_out += [path for path in children if path not in called and list_images(path, [])]
    left_out += filter(_is_image, folder.iterdir())
    parts = {split: parts[split] for split in _SPLITS if split in parts}
    layout = f"folders {', '.join(path.name for path in parts.values())}"
    if "test" not in parts and "val" in parts:
        layout = f"no test folder: {parts['val'].name} is the test split"
        parts["test"] = parts.pop("val")
    return parts, layout


def _files_by_class(folder: Path, left_out: list[Path]) -> dict[str, list[Path]]:
    files = {printable(path.name): list_images(path, left_out) for path in _subfolders(folder)}
    if empty := [name for name, paths in files.items() if not paths]:
        raise DataError(f"class folder {printable(folder)}/{empty[0]} holds no image files; expected {_EXPECTED}")
    loose = [path for path in sorted(folder.iterdir()) if _is_image(path)]
    if not files:
        found = f", but {len(loose)} images: it may be one folder too deep" if loose else ""
        raise DataError(f"{printable(folder)} holds no class folders{found}; expected {_EXPECTED}")
    left_out += loose
    places = [{path.parent for path in paths} for paths in files.values()]
    below = [{place.relative_to(folder).parts[1:2] for place in own} for own in places]
    every = set().union(*below)
    # Splits by other names, or one folder above the classes. One that is the only one in each class may be there.
    if () not in every and set.intersection(*below) and len(every) > 1:
        raise DataError(
            f"{' and '.join(list(files)[:2])} in {printable(folder)} hold no images but folders of the same names, so "
            "they are no classes; name the folder above the classes, and call splits train, val and test"
        )
    return files


def _shared_between_splits(files: _Files) -> list[str]:
    """Return a remark on files that several splits read, through links: what is trained on would be tested on."""
    seen: dict[tuple[int, int], str] = {}
    shared = []
    for split, owners in files.items():
        for path in (path for paths in owners.values() for path in paths):
            status = path.stat()
            before = seen.setdefault((status.st_dev, status.st_ino), split)
            if before != split:
                shared.append(f"{printable(path)} of the {split} split is a file of the {before} split, too")
    return [f"{shared[0]}, and so are {len(shared) - 1} more" if shared[1:] else shared[0]] if shared else []


def _class_names(files: _Files) -> tuple[str, ...]:
    known = sorted(files.get("train") or set().union(*files.values()))
    for part, owners in files.items():
        for name in sorted(owners.keys() - known):
            raise DataError(
                f"the {part} folder has class {name!r}, which the train folder has not.{suggest(name, known)}"
            )
    return tuple(known)
