"""Corrupted images as files: sets in the layout of CIFAR-10-C, and one image under every corruption as a picture."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from robustprune.corruptions.apply import corrupt, share_corruption_options
from robustprune.corruptions.raster import geometry_scale
from robustprune.corruptions.registry import SEVERITIES
from robustprune.corruptions.requests import Corruptions
from robustprune.errors import CorruptionError
from robustprune.runtime.file_kinds import MARK, PICTURE
from robustprune.runtime.files import hash_arrays, write_atomically
from robustprune.runtime.work import Progress, labelled, steps

if TYPE_CHECKING:
    from PIL import Image

SETTINGS = "settings.json"
_LEAST_TILE = 64  # pixels; smaller images are enlarged by a whole factor
_LABEL, _GAP, _TEXT = 130, 4, 12
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def write_set(
    images: Tensor,
    labels: Tensor,
    folder: str | Path,
    corruptions: Corruptions,
    *,
    seed: int = 0,
    sample_ids: Tensor | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> list[str]:
    """Write ``NAME.npy`` uint8 (5·N, H, W, C) for each corruption, and ``labels.npy``; return what was written.

    Rows (s − 1)·N … s·N are severity s in the order of the images. ``settings.json`` says what the set was made from.
    A file that is there is whole; with ``resume``, those of the same set are kept. Images are uint8 (N, C, H, W);
    labels (N,) are written as uint8 where they fit, else as int64. Seed and ids are those of `corrupt`.

    Raises:
        CorruptionError: The folder holds another set, or one without ``resume``, or cannot be written; an option that
            no corruption takes, or a value that does not do.
    """
    place = Path(folder)
    given = share_corruption_options(corruptions, images)
    content = {"images": images.cpu().numpy(), "labels": labels.cpu().numpy()}
    settings = {
        "made_by": "robustprune corrupt",
        "seed": seed,
        "images_sha256": hash_arrays(content),
        "sample_ids_sha256": None if sample_ids is None else hash_arrays({"ids": sample_ids.cpu().numpy()}),
        "scale": geometry_scale(*images.shape[2:]),
        "options": {name: {key: str(each) for key, each in own.items()} for name, own in given.items() if own},
    }
    written = []
    try:
        _claim(place, settings, resume)
        kind = np.uint8 if content["labels"].max(initial=0) < 256 else np.int64
        stream = io.BytesIO()
        np.save(stream, np.tile(content["labels"], len(SEVERITIES)).astype(kind))
        write_atomically(place / "labels.npy", stream.getvalue())
        missing = {name: options for name, options in given.items() if not (place / f"{name}.npy").exists()}
        step = steps(labelled(progress, "corruptions"), len(missing) * len(SEVERITIES))
        for name, options in missing.items():
            keyed = {"seed": seed, "sample_ids": sample_ids, **options}
            with _new_array(place / f"{name}.npy", images) as parts:
                for severity, part in zip(SEVERITIES, parts, strict=True):
                    part[:] = corrupt(images, name, severity, **keyed).cpu().permute(0, 2, 3, 1).numpy()
                    step()
            written.append(name)
    except OSError as error:
        raise CorruptionError(f"the corrupted set cannot be written to {place}: {error.strerror}") from error
    return written


def _claim(place: Path, settings: Mapping[str, Any], resume: bool) -> None:
    """Make the folder and say what is in it, unless something else is."""
    described = place / SETTINGS
    if described.exists():
        try:
            found = dict(json.loads(described.read_text()))
        except (ValueError, TypeError):
            found = {}
        differing = [key for key in settings if found.get(key) != settings[key]]
        if differing:
            raise CorruptionError(
                f"{place} holds something that was made otherwise, see {', '.join(differing)} in its {SETTINGS}; "
                "give another folder"
            )
        if not resume:
            raise CorruptionError(f"{place} holds this set already; add --resume to write what is missing of it")
    elif place.exists() and any(place.glob("[!.]*.npy")):
        raise CorruptionError(f"{place} holds arrays of something else; give another folder")
    write_atomically(described, (json.dumps(settings, indent=2) + "\n").encode())


@contextmanager
def _new_array(path: Path, images: Tensor) -> Iterator[np.ndarray[Any, Any]]:
    """Give an array (5, N, H, W, C) on disk to fill, so that no more than one severity is in memory."""
    count, channels, height, width = images.shape
    temporary = path.with_name(f".{path.name}.tmp.npy")
    try:
        shape = (len(SEVERITIES) * count, height, width, channels)
        array = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
        yield array.reshape(len(SEVERITIES), count, height, width, channels)
        array.flush()
        del array
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_gallery(
    image: Tensor,
    path: str | Path,
    corruptions: Corruptions,
    *,
    seed: int = 0,
    sample_id: int = 0,
    progress: Progress | None = None,
) -> None:
    """Write a picture of an image (C, H, W) under corruptions: a line each, the image itself and severities 1 to 5.

    It is corrupted as the image ``sample_id`` of a set is, see :func:`~robustprune.corruptions.corrupt`.

    Raises:
        CorruptionError: A file format that is not known, a file that cannot be written or is none drawn here, or an
            option that no corruption takes.
    """
    place = Path(path)
    kind = _FORMATS.get(place.suffix.lower())
    if kind is None:
        raise CorruptionError(f"a gallery is a {', '.join(_FORMATS)} file, got {place}")
    stream = io.BytesIO()
    shown = share_corruption_options(corruptions, image[None])
    picture = draw_gallery(image, shown, seed, sample_id, steps(labelled(progress, "gallery"), len(shown)))
    marked = picture.getexif()
    marked[0x131] = MARK  # the tag of the software
    picture.save(stream, kind, exif=marked, quality=90)
    try:
        write_atomically(place, stream.getvalue(), PICTURE)
    except OSError as error:
        raise CorruptionError(f"the gallery cannot be written to {place}: {error.strerror}") from error


def draw_gallery(
    image: Tensor, shown: Mapping[str, Mapping[str, Any]], seed: int, sample_id: int, step: Callable[[], None]
) -> Image.Image:
    """Return the picture: two columns of corruptions, each with its name, made with options of its own."""
    from PIL import Image, ImageDraw

    factor = max(1, -(-_LEAST_TILE // min(image.shape[1:])))
    height, width = (factor * side for side in image.shape[1:])
    lines = -(-len(shown) // 2)
    column = _LABEL + (len(SEVERITIES) + 1) * (width + _GAP) + 4 * _GAP
    picture = Image.new("RGB", (2 * column, lines * (height + _GAP) + _GAP), "white")
    pen = ImageDraw.Draw(picture)
    for number, (name, options) in enumerate(shown.items()):
        left, top = (number // lines) * column + _GAP, (number % lines) * (height + _GAP) + _GAP
        pen.text((left, top + height // 2 - _TEXT // 2), name.replace("_", " "), fill="black", font_size=_TEXT)
        keyed = {"seed": seed, "sample_ids": [sample_id], **options}
        made = [image, *(corrupt(image[None], name, severity, **keyed)[0] for severity in SEVERITIES)]
        for place, tile in enumerate(made):
            pixels = tile.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
            large = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
            picture.paste(large, (left + _LABEL + place * (width + _GAP), top))
        step()
    return picture
