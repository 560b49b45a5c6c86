"""One image under every corruption at every severity, as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from robustprune.corruptions.apply import corrupt, share_corruption_options
from robustprune.corruptions.registry import SEVERITIES
from robustprune.corruptions.requests import Corruptions
from robustprune.errors import CorruptionError
from robustprune.runtime.files import write_atomically
from robustprune.runtime.kinds import MARK, PICTURE

if TYPE_CHECKING:
    from PIL import Image

_LEAST_TILE = 64  # pixels; smaller images are enlarged by a whole factor
_LABEL, _GAP, _TEXT = 130, 4, 12
_SOFTWARE = 0x131  # the tag of Exif
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def write_gallery(
    image: Tensor,
    path: str | Path,
    corruptions: Corruptions,
    *,
    seed: int = 0,
    sample_id: int = 0,
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
    picture = draw_gallery(image, shown, seed, sample_id)
    marked = picture.getexif()
    marked[_SOFTWARE] = MARK
    picture.save(stream, kind, exif=marked, **({"quality": 90} if kind == "JPEG" else {}))
    try:
        write_atomically(place, stream.getvalue(), PICTURE)
    except OSError as error:
        raise CorruptionError(f"the gallery cannot be written to {place}: {error.strerror}") from error


def draw_gallery(image: Tensor, shown: Mapping[str, Mapping[str, Any]], seed: int, sample_id: int) -> Image.Image:
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
            large = tile.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
            pixels = large.expand(3, -1, -1).permute(1, 2, 0).to(torch.uint8).contiguous().numpy()
            picture.paste(Image.fromarray(pixels), (left + _LABEL + place * (width + _GAP), top))
    return picture
